"""Evaluate a version, saying how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_edit.core.content import Pair
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.results import ChangeView
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.evaluation.evaluate import Evaluation, collect_probes, evaluate
from mlflow_edit.evaluation.suite import Suite, default_suite
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.moved_keys import moved_keys
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.operations.weight_views import change_views
from mlflow_edit.patches.composition import Composition

NOT_MEASURED = Evaluation(Scorecard(), ())


@dataclass(frozen=True, slots=True)
class Trial:
    """What was seen of a version before it is registered.

    `weights` is the digest of the weights that its deltas give, `changes` what each of them adds;
    `warnings` are for its readers; `edits` those in force. `composition` is None where nothing was
    composed.
    """

    evaluation: Evaluation = NOT_MEASURED
    weights: str | None = None
    warnings: tuple[str, ...] = ()
    composition: Composition | None = None
    edits: Mapping[Pair, Edit] = field(default_factory=dict)
    changes: Mapping[str, tuple[ChangeView, ...]] = field(default_factory=dict)


def measure(
    edited: EditedModel,
    edits: Sequence[Edit],
    new: frozenset[str],
    suite: Suite | None,
    reporter: Reporter,
) -> Evaluation:
    """Evaluate a version, reporting how many probes are answered."""
    suite = suite or default_suite()
    probes = collect_probes(edited, edits, new, suite)
    reporter.stage(f"measuring with {len(probes)} probes")
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        reporter.progress(done, len(probes))

    return evaluate(edited, edits, new=new, suite=suite, probes=probes, advance=advance)


def try_out(
    edited: EditedModel,
    edits: Sequence[tuple[Pair, Edit]],
    new: frozenset[str],
    suite: Suite | None,
    reporter: Reporter,
    *,
    measured: bool = True,
    reweighted: bool = False,
) -> Trial:
    """Look at a version that is about to be registered: its weights, its keys, its scores.

    Keys can have moved where deltas are in force, and where it is `reweighted`: some may be gone.
    """
    moved = moved_keys(edited, edits) if edited.reweighted or reweighted else []
    warnings = [one.said for one in moved]
    for said in warnings:
        reporter.warn(said)
    found = NOT_MEASURED
    if measured:
        found = measure(edited, [edit for _, edit in edits], new, suite, reporter)
    return Trial(
        found,
        edited.weights_digest,
        tuple(warnings),
        composition=edited.composition,
        edits=dict(edits),
        changes=change_views(edited),
    )
