"""Measure a registered version again, or on other probes."""

from pathlib import Path

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.scorecard import Scorecard, changes
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.evaluation.suite import Suite, parse_suite
from mlflow_edit.operations.load import load
from mlflow_edit.operations.measuring import measure
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.publication import results_table
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.show import edits_in_force
from mlflow_edit.registry.names import RESULTS, parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo


class Evaluated(FrozenModel):
    """A new scorecard of a version, how it differs from the registered one, and what failed.

    `changes` is empty where the registered one was measured by another protocol. Failures are
    answers that the edits made or left wrong; a question that the base gets wrong is none.
    """

    name: str
    version: int
    run_id: str
    scorecard: Scorecard
    changes: dict[str, float]
    failures: tuple[ProbeResult, ...]


def evaluate(
    ref: str,
    *,
    suite: str | Path | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Evaluated:
    """Measure a version and keep the measurement as a run; the version itself does not change.

    Args:
        ref: `NAME@REF`.
        suite: a `.jsonl` file of `{"prompt", "answers"}` and `{"text"}` lines instead of the
            shipped questions and texts.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: the suite cannot be read.
        VersionNotFound: there is no such version.
    """
    chosen = read_suite(Path(suite)) if suite is not None else None
    registry, reporter = open_registry(registry), reporter or Silent()
    info = registry.resolve(parse_ref(ref))
    manifest = registry.manifest(info)
    found = edits_in_force(registry, manifest)
    edits = [edit for _, edit in found]
    new = frozenset(
        edit.digest for batch, edit in found if batch in _newest(registry, info, manifest)
    )
    reporter.stage("loading the model")
    with load(f"{info.name}@{info.version}", registry=registry) as edited:
        evaluation = measure(edited, edits, new, chosen, reporter)
    table = results_table(evaluation.results)
    run_id = registry.record_evaluation(info, evaluation.scorecard, {RESULTS: table})
    return Evaluated(
        name=info.name,
        version=info.version,
        run_id=run_id,
        scorecard=evaluation.scorecard,
        changes=_changes(registry.scorecard(info, manifest), evaluation.scorecard),
        failures=tuple(row for row in evaluation.results if not row.ok and not _known_gap(row)),
    )


def _newest(registry: Registry, info: VersionInfo, manifest: Manifest) -> frozenset[str]:
    """Return the batches that this version brought: those that reliability was measured over."""
    versions = registry.versions(info.name)
    parents = [v for v in versions if v.digest in manifest.parents]
    known = {ref.digest for parent in parents for ref in registry.manifest(parent).batches}
    return frozenset(ref.digest for ref in manifest.batches if ref.digest not in known)


def _changes(registered: Scorecard, now: Scorecard) -> dict[str, float]:
    if registered.protocol != now.protocol:
        return {}
    return changes(registered.metrics(), now.metrics())


def _known_gap(row: ProbeResult) -> bool:
    """Tell whether the base model fails a question in just the same way."""
    return row.metric == "test_retention" and row.before == row.after


def read_suite(path: Path) -> Suite:
    """Read a suite from a file.

    Raises:
        InvalidInputError: the file cannot be read, or is malformed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the suite {path} cannot be read: {error}") from error
    return parse_suite(text, name=path.name)
