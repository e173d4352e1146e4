"""Evaluate a version, saying how far it is."""

from collections.abc import Sequence

from mlflow_edit.core.edit import Edit
from mlflow_edit.evaluation.evaluate import Evaluation, collect_probes, evaluate
from mlflow_edit.evaluation.suite import Suite, default_suite
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.reporter import Reporter


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
