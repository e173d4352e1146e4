"""Batches learned again, one on another, over another base model: what rebase carries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.content import Content
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.lineage import Lineage
from mlflow_edit.core.manifest import BatchRef, Manifest
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.errors import InvalidInputError, NotConverged
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.operations.learning import learn
from mlflow_edit.operations.merging_weights import EDITOR as MERGE
from mlflow_edit.operations.next_version import delta_edits, parts_of, weights_of
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.patches.composition import Composition, compose
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch


class OldBatch(NamedTuple):
    """A batch of the version that is rebased, with those of its edits that are in force."""

    digest: str
    record: BatchRecord
    edits: EditBatch


@dataclass(slots=True)
class Carried:
    """The batches that were learned again so far, over the new base model."""

    base: BaseModel
    content: Content = field(default_factory=lambda: Content({}, frozenset()))
    batches: dict[str, StoredBatch] = field(default_factory=dict)
    of: dict[tuple[str, str], str] = field(default_factory=dict)  # (old batch, edit): new batch

    def add(self, stored: StoredBatch, old: str) -> None:
        """Put a batch in force that was learned for the edits of an old one."""
        digest = stored.record.digest
        others = {name: batch.edits for name, batch in self.batches.items()}
        self.content = self.content.with_batch(stored.reference("new"), stored.edits, others)
        self.batches[digest] = stored
        self.of |= {(old, edit.id): digest for edit in stored.edits}

    def composition(self) -> Composition:
        """Compose what was learned so far."""
        return compose(parts_of(self.content, self.batches))


def in_order(registry: Registry, info: VersionInfo, manifest: Manifest) -> list[OldBatch]:
    """Return the batches of a version with their edits in force, in the order of history."""
    versions = registry.versions(info.name)
    lineage = Lineage({one.digest: one.parents for one in versions})
    by_digest = {one.digest: one for one in versions}
    manifests = [
        registry.manifest(by_digest[digest])
        for digest in lineage.in_order(lineage.ancestors(info.digest))
    ]
    first = {ref.digest: ref for one in reversed(manifests) for ref in one.batches}
    made_of = {one.merging.batch: one.merging.of for one in manifests if one.merging}
    order: dict[str, int] = {}
    for i, one in enumerate(manifests):
        for ref in one.batches:
            order.setdefault(ref.digest, i)
    found: dict[str, OldBatch] = {}
    for digest in sorted({ref.digest for ref in manifest.batches}, key=lambda d: (order[d], d)):
        parts = _parts(registry, digest, manifest.excluded(digest), first, made_of)
        found |= {batch.digest: batch for batch in parts}
    return [batch for batch in found.values() if len(batch.edits)]


def _parts(
    registry: Registry,
    digest: str,
    out: frozenset[str],
    refs: Mapping[str, BatchRef],
    made_of: Mapping[str, Sequence[str]],
) -> Iterable[OldBatch]:
    """Yield a batch less some edits; of one that a merge made, those that it was made of."""
    stored = registry.batch(refs[digest])
    kept = [edit for edit in stored.edits if edit.id not in out]
    if stored.record.editor != MERGE:
        yield OldBatch(digest, stored.record, EditBatch(tuple(kept)))
        return
    if digest not in made_of or not set(made_of[digest]) <= set(refs):
        raise InvalidInputError(
            f"batch {digest[:12]} was made by a merge of weights in another history: what it was "
            "made of is not in this one",
            hint="Rebase the model that it was picked from, or revert the batch first.",
        )
    labels = {(edit.prompt, edit.label_digest) for edit in kept}
    for source in made_of[digest]:
        gone = {
            edit.id
            for edit in registry.edits(refs[source])
            if (edit.prompt, edit.label_digest) not in labels
        }
        yield from _parts(registry, source, frozenset(gone), refs, made_of)


def carry(carried: Carried, old: OldBatch, needless: set[str], reporter: Reporter) -> None:
    """Learn one batch again, without what is not needed; what cannot be learned stays out."""
    wanted = [edit.id for edit in old.edits if edit.digest not in needless]
    if not wanted:
        return
    editor = find_editor(old.record.editor, old.record.params)
    below = weights_of(carried.batches, carried.content.excluded())
    earlier = delta_edits(carried.batches, carried.content.excluded())
    edits = old.edits.subset(wanted)
    try:
        stored, _ = learn(editor, carried.base, edits, reporter, below=below, earlier=earlier)
    except NotConverged as error:
        reporter.warn(f"batch {old.digest[:12]}: {error.message}")
        return
    carried.add(stored, old.digest)
