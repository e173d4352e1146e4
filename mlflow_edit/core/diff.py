"""What differs between two versions."""

from collections.abc import Mapping

from mlflow_edit.core.edit import Edit, FrozenModel, normal_text
from mlflow_edit.core.manifest import BatchRef
from mlflow_edit.core.results import Fired
from mlflow_edit.core.scorecard import HEADLINE, Scorecard


class DiffEdit(FrozenModel):
    """One edit of a difference, and the batch that brought it."""

    id: str
    batch: str
    prompt: str
    target: str


class ChangedEdit(FrozenModel):
    """A prompt that both versions answer by an edit, differently."""

    prompt: str
    old: DiffEdit
    new: DiffEdit


class BatchesDiff(FrozenModel):
    """Batches that only one side lists."""

    added: tuple[BatchRef, ...] = ()
    removed: tuple[BatchRef, ...] = ()


class EditsDiff(FrozenModel):
    """Edits that only one side answers by; with one prompt and two targets they are `changed`."""

    added: tuple[DiffEdit, ...] = ()
    removed: tuple[DiffEdit, ...] = ()
    changed: tuple[ChangedEdit, ...] = ()


class MetricDiff(FrozenModel):
    """One metric on both sides; None where it was not measured."""

    metric: str
    old: float | None
    new: float | None


class RadiusDiff(FrozenModel):
    """An entry of both versions whose deferral radius in force is not the same in both."""

    edit_id: str
    batch: str
    old: float
    new: float


class TensorDiff(FrozenModel):
    """A weight that the versions' deltas change differently, and the Frobenius norm of that.

    `norm` is null where a dense change takes part: only the base model could tell.
    """

    tensor: str
    norm: float | None


class AnswerDiff(FrozenModel):
    """A prompt, the answers of both versions, and which edits gave them (None: the base)."""

    prompt: str
    old: str
    new: str
    old_fired: Fired | None
    new_fired: Fired | None
    changed: bool


def diff_batches(old: Mapping[str, BatchRef], new: Mapping[str, BatchRef]) -> BatchesDiff:
    """Compare what two versions list."""
    return BatchesDiff(
        added=tuple(ref for digest, ref in sorted(new.items()) if digest not in old),
        removed=tuple(ref for digest, ref in sorted(old.items()) if digest not in new),
    )


def diff_edits(
    old: Mapping[tuple[str, str], Edit], new: Mapping[tuple[str, str], Edit]
) -> EditsDiff:
    """Compare the edits that are in force on one side only, given by (batch, id).

    Law: `diff_edits(b, a)` is `diff_edits(a, b)` with added and removed, old and new, swapped.
    """
    removed = _by_prompt(old)
    added = _by_prompt(new)
    both = sorted(removed.keys() & added.keys())
    changed = [
        ChangedEdit(prompt=was.prompt, old=was, new=now)
        for text in both
        for was, now in zip(removed[text], added[text], strict=False)
    ]
    paired = {text: min(len(removed[text]), len(added[text])) for text in both}
    return EditsDiff(
        added=tuple(e for t in sorted(added) for e in added[t][paired.get(t, 0) :]),
        removed=tuple(e for t in sorted(removed) for e in removed[t][paired.get(t, 0) :]),
        changed=tuple(changed),
    )


def diff_scorecards(old: Scorecard, new: Scorecard) -> tuple[MetricDiff, ...]:
    """Put the headline metrics side by side, those that differ."""
    rows = (
        MetricDiff(metric=name, old=getattr(old, name), new=getattr(new, name)) for name in HEADLINE
    )
    return tuple(row for row in rows if row.old != row.new)


def _by_prompt(edits: Mapping[tuple[str, str], Edit]) -> dict[str, list[DiffEdit]]:
    found: dict[str, list[DiffEdit]] = {}
    for (batch, _), edit in sorted(edits.items(), key=lambda item: item[0]):
        one = DiffEdit(id=edit.id, batch=batch, prompt=edit.prompt, target=edit.target)
        found.setdefault(normal_text(edit.prompt), []).append(one)
    return found
