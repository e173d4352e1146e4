"""Whether a new version still answers by all its edits, and by the base model elsewhere."""

from collections.abc import Sequence

from mlflow_edit.core.gate import Check
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import GateError, InvalidInputError

MOST_NAMED = 5
KEPT = 0.9  # of all edits, and of probes that no edit is about: what is below it is told


def forgotten(
    scorecard: Scorecard, parent: Scorecard | None, lost: Sequence[str] = ()
) -> str | None:
    """Say that a version forgets: it answers less than nine tenths of its edits as it should.

    It is not compared with its parent alone: a slow decline has no large step.

    Args:
        scorecard: the version's.
        parent: its parent's.
        lost: the ids of the edits that it does not answer as it should.
    """
    before = 1.0 if parent is None or parent.retention is None else parent.retention
    after = scorecard.retention
    if after is None or after >= KEPT:
        return None
    said = f"the version answers {after:.2f} of its edits as it should, its parent {before:.2f}"
    if not lost:
        return f"{said}: what was edited is being forgotten"
    more = f" and {len(lost) - MOST_NAMED:,} more" if len(lost) > MOST_NAMED else ""
    return f"{said}; forgotten: {', '.join(lost[:MOST_NAMED])}{more}"


def disturbed(scorecard: Scorecard) -> str | None:
    """Say that a version moves what no edit is about: less than nine tenths of it is unchanged."""
    found = {"neighbours": scorecard.locality, "test questions": scorecard.test_retention}
    said = [f"{v:.2f} of {name}" for name, v in found.items() if v is not None and v < KEPT]
    return f"only {' and '.join(said)} are answered as before" if said else None


def checked_bound(bound: float | None) -> float | None:
    """Return a bound on retention.

    Raises:
        InvalidInputError: it is not a share.
    """
    if bound is not None and not 0 <= bound <= 1:
        raise InvalidInputError(f"min_retention: a share from 0 to 1 was expected, {bound} came")
    return bound


def hold_to(bound: float | None, scorecard: Scorecard) -> None:
    """Refuse a version that forgets more than its author allows.

    Raises:
        GateError: its retention is below the bound, or was not measured.
    """
    value = scorecard.retention
    if bound is None or (value is not None and value >= bound):
        return
    if value is None:
        said = f"retention was not measured; the bound is {bound:g}"
    else:
        said = f"retention is {value:.3f}, below the bound of {bound:g}"
    raise GateError(
        f"{said}; nothing was registered",
        failures=(
            Check(name="min retention", passed=False, value=value, threshold=bound, said=said),
        ),
        hint="Apply fewer edits at a time, or choose an editor that holds more: --editor grace.",
    )
