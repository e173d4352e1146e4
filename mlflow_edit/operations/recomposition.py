"""A new version out of batches that are stored already: what revert, cherry-pick and merge make."""

import time
from dataclasses import dataclass, field

from mlflow_edit.core.conflicts import in_force
from mlflow_edit.core.content import Content
from mlflow_edit.core.contextual import deltas_in_force
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.manifest import BaseRef, Merging, Resolution
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.edit_changes import edit_changes
from mlflow_edit.operations.measuring import Trial, try_out
from mlflow_edit.operations.next_version import parts_of
from mlflow_edit.operations.publication import Publication, Published
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.patches.composition import compose
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch


@dataclass(frozen=True, slots=True)
class Recomposition:
    """A version about to be made: its parents, and what it will do.

    `learned` are batches of it that are not stored yet, which stand for others of `asked`.
    """

    verb: str
    parents: tuple[VersionInfo, ...]
    base: BaseRef
    old: Content
    new: Content
    resolutions: tuple[Resolution, ...] = ()
    learned: tuple[StoredBatch, ...] = ()
    asked: Content | None = None
    merging: Merging | None = None
    started: float = field(default_factory=time.time)

    def try_out(
        self,
        registry: Registry,
        new: frozenset[str],
        suite: Suite | None,
        reporter: Reporter,
        *,
        measured: bool = True,
    ) -> Trial:
        """Load the base model and measure all edits in force.

        Args:
            registry: where the batches are.
            new: digests of the edits that reliability is about; none: it is about all.
            suite: questions and texts; None takes the shipped ones.
            reporter: is told what is being done.
            measured: whether to measure; else only weights are named and keys looked at, where
                deltas are or were in force.
        """
        reweighted = any(map(_reweighted, (self.old, self.new)))
        if not measured and not reweighted:
            return Trial()
        known = {batch.record.digest: batch for batch in self.learned}
        batches = {d: known.get(d) or registry.batch(ref) for d, ref in self.new.batches.items()}
        edits = list(in_force(self.new, {d: batch.edits for d, batch in batches.items()}))
        reporter.stage("loading the base model")
        base = load_pinned(registry, self.base)
        with EditedModel(base, compose(parts_of(self.new, batches))) as edited:
            return try_out(
                edited, edits, new, suite, reporter, measured=measured, reweighted=reweighted
            )

    def changes(self, registry: Registry) -> tuple[tuple[Edit, ...], tuple[Edit, ...]]:
        """Return the edits taken out, and those in force again or anew."""
        gone, come = edit_changes(registry, self.old, self.asked or self.new)
        return tuple(gone.values()), tuple(come.values())

    def publish(
        self,
        registry: Registry,
        trial: Trial,
        *,
        author: str,
        message: str,
        reporter: Reporter,
    ) -> Published:
        """Register the version (see `Publication.publish`)."""
        taken, returned = self.changes(registry)
        publication = Publication(
            name=self.parents[0].name,
            verb=self.verb,
            base=self.base,
            parents=self.parents,
            content=self.new,
            trial=trial,
            author=author,
            message=message,
            started=self.started,
            resolutions=self.resolutions,
            relearned=self.learned,
            merging=self.merging,
            taken=taken,
            returned=returned,
        )
        return publication.publish(registry, reporter)


def _reweighted(content: Content) -> bool:
    return bool(deltas_in_force(content.batches.values(), content.excluded()))
