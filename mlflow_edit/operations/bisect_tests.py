"""What bisect can ask of a candidate: an answer, a score, a command."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow_edit.core.answers import is_hit
from mlflow_edit.core.content import Content
from mlflow_edit.core.delta_debugging import Outcome
from mlflow_edit.core.gate import LOWER_IS_BETTER, METRICS
from mlflow_edit.core.manifest import BaseRef, Manifest
from mlflow_edit.errors import BisectFailed, InvalidInputError
from mlflow_edit.evaluation.evaluate import evaluate
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.evaluation.suite import Suite, default_suite
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.init import utc_now
from mlflow_edit.registry.registry import Registry
from mlflow_edit.registry.stored_batch import StoredBatch

ANSWER_TOKENS = 64
SKIP, ABORT = 125, 128  # exit codes of a command, as `git bisect run` reads them


@dataclass(frozen=True, slots=True)
class Candidate:
    """Some of the changes, in force."""

    edited: EditedModel
    base: BaseRef
    content: Content
    batches: Mapping[str, StoredBatch]


BisectTest = Callable[[Candidate], Outcome]


def answer_test(prompt: str, *, expected: str | None, unwanted: str | None) -> BisectTest:
    """Call a candidate bad when its answer is not the expected one, or is the unwanted one.

    Raises:
        InvalidInputError: not just one of the two is given.
    """
    if (expected is None) == (unwanted is None):
        raise InvalidInputError("give either the expected or the unwanted answer")

    def test(candidate: Candidate) -> Outcome:
        found = generate_answers(candidate.edited, [prompt], max_new_tokens=ANSWER_TOKENS)[0].text
        wrong = not is_hit(found, [expected]) if expected is not None else False
        wrong = wrong or (unwanted is not None and is_hit(found, [unwanted]))
        return "bad" if wrong else "good"

    return test


def score_test(metric: str, threshold: float, suite: Suite | None = None) -> BisectTest:
    """Call a candidate bad when a metric is worse than a threshold; not measured is a skip.

    Raises:
        InvalidInputError: there is no such metric.
    """
    if metric not in METRICS:
        raise InvalidInputError(f"there is no metric {metric!r}", hint=", ".join(sorted(METRICS)))
    chosen = suite or default_suite()

    def test(candidate: Candidate) -> Outcome:
        out = candidate.content.excluded()
        edits = [
            edit
            for digest in candidate.content.batches
            for edit in candidate.batches[digest].edits
            if (digest, edit.id) not in out
        ]
        card = evaluate(candidate.edited, edits, new=frozenset(), suite=chosen).scorecard
        value = getattr(card, metric)
        if value is None:
            return "good" if not edits else "skip"
        worse = value > threshold if metric in LOWER_IS_BETTER else value < threshold
        return "bad" if worse else "good"

    return test


def command_test(command: str, registry: Registry) -> BisectTest:
    """Run a shell command on a candidate, exported to the folder `MLEDIT_MODEL`.

    Its exit code says good (0), skip (125), bad (1 to 127) or abort (128 and more).
    """

    def test(candidate: Candidate) -> Outcome:
        from mlflow_edit.registry.exported import write_export

        manifest = Manifest(
            base=candidate.base,
            batches=tuple(candidate.content.batches.values()),
            exclusions=tuple(candidate.content.exclusions),
            created_at=utc_now(),
            weights=candidate.edited.weights_digest,
        )
        with tempfile.TemporaryDirectory(prefix="mledit-bisect-") as folder:
            target = Path(folder) / "model"
            base = registry.base_folder(candidate.base)
            write_export(
                target, manifest, candidate.batches, base, files={}, encoders={}, links=True
            )
            environment = {**os.environ, "MLEDIT_MODEL": str(target)}
            code = subprocess.run(command, shell=True, env=environment).returncode
        if code < 0 or code >= ABORT:
            raise BisectFailed(f"the command ended with {code}: the search was given up")
        return "good" if code == 0 else "skip" if code == SKIP else "bad"

    return test
