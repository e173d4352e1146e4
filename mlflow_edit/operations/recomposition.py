"""A new version out of batches that are stored already: what revert, cherry-pick and merge make."""

import time
from dataclasses import dataclass, field

from mlflow_edit.core.content import Content
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.manifest import BaseRef, Manifest, Resolution
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.evaluation.evaluate import Evaluation
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.edit_changes import edit_changes
from mlflow_edit.operations.measuring import measure
from mlflow_edit.operations.next_version import parts_of
from mlflow_edit.operations.publication import Publication
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.patches.composition import compose
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry, VersionInfo

NOT_MEASURED = Evaluation(Scorecard(), ())


@dataclass(frozen=True, slots=True)
class Recomposition:
    """A version about to be made: its parents, and what it will do."""

    verb: str
    parents: tuple[VersionInfo, ...]
    base: BaseRef
    old: Content
    new: Content
    resolutions: tuple[Resolution, ...] = ()
    started: float = field(default_factory=time.time)

    def evaluate(
        self, registry: Registry, new: frozenset[str], suite: Suite | None, reporter: Reporter
    ) -> Evaluation:
        """Load the base model and measure all edits in force.

        Args:
            registry: where the batches are.
            new: digests of the edits that reliability is about; none: it is about all.
            suite: questions and texts; None takes the shipped ones.
            reporter: is told what is being done.
        """
        batches = {digest: registry.batch(ref) for digest, ref in self.new.batches.items()}
        out = self.new.excluded()
        edits = [e for d, b in batches.items() for e in b.edits if (d, e.id) not in out]
        reporter.stage("loading the base model")
        base = load_pinned(registry, self.base)
        with EditedModel(base, compose(parts_of(self.new, batches))) as edited:
            return measure(edited, edits, new, suite, reporter)

    def changes(self, registry: Registry) -> tuple[tuple[Edit, ...], tuple[Edit, ...]]:
        """Return the edits taken out, and those in force again or anew."""
        gone, come = edit_changes(registry, self.old, self.new)
        return tuple(gone.values()), tuple(come.values())

    def publish(
        self,
        registry: Registry,
        evaluation: Evaluation,
        *,
        author: str,
        message: str,
        reporter: Reporter,
    ) -> tuple[VersionInfo, Manifest]:
        """Register the version (see `Registry.publish`)."""
        taken, returned = self.changes(registry)
        reporter.stage("registering the version")
        return Publication(
            name=self.parents[0].name,
            verb=self.verb,
            base=self.base,
            parents=self.parents,
            content=self.new,
            evaluation=evaluation,
            author=author,
            message=message,
            started=self.started,
            resolutions=self.resolutions,
            taken=taken,
            returned=returned,
        ).publish(registry)
