"""What a version becomes by one more batch: which batches, which edits in force."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_edit.core.conflicts import in_force
from mlflow_edit.core.content import Content, Pair, replaced_by
from mlflow_edit.core.contextual import learned_order
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import Exclusion, Manifest
from mlflow_edit.editors.editor import Editor
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.weights import Weights
from mlflow_edit.registry.names import VersionRef
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch


@dataclass(frozen=True, slots=True)
class ParentVersion:
    """The version that is built on, with all of its batches."""

    info: VersionInfo
    manifest: Manifest
    batches: dict[str, StoredBatch]

    @classmethod
    def read(cls, registry: Registry, ref: VersionRef) -> "ParentVersion":
        """Read a version and verify all that it names."""
        info = registry.resolve(ref)
        manifest = registry.manifest(info)
        return cls(info, manifest, registry.batches(manifest))

    def holds(self, editor: Editor[Any], batch: EditBatch) -> bool:
        """Tell whether this very batch is in force, by this editor with these settings."""
        return any(
            stored.record.edits == batch.digest
            and stored.record.editor == editor.name
            and stored.record.params == editor.params.model_dump(mode="json")
            and not self.manifest.excluded(digest)
            for digest, stored in self.batches.items()
        )

    def holds_learned(self, stored: StoredBatch) -> bool:
        """Tell whether a batch that was just learned is in force already."""
        digest = stored.record.digest
        return digest in self.batches and not self.manifest.excluded(digest)

    def in_force(self) -> list[Edit]:
        """Return every edit that the version answers by."""
        edits = {digest: batch.edits for digest, batch in self.batches.items()}
        return [edit for _, edit in in_force(Content.of(self.manifest), edits)]

    def weights_below(self, edits: EditBatch) -> Weights | None:
        """Return the deltas on top of which `edits` are learned: those that they leave in force."""
        return weights_of(self.batches, self._left_out_by(edits))

    def edits_below(self, edits: EditBatch) -> tuple[Edit, ...]:
        """Return the edits of those deltas, less those that `edits` replace."""
        return delta_edits(self.batches, self._left_out_by(edits))

    def _left_out_by(self, edits: EditBatch) -> set[Pair]:
        others = {digest: batch.edits for digest, batch in self.batches.items()}
        out = {item.pair for item in self.manifest.exclusions}
        return out | {pair for pair, _ in replaced_by(edits, others)}


@dataclass(frozen=True, slots=True)
class NextVersion:
    """A parent and one more batch; `superseded` are the parent's edits that it replaces."""

    stored: StoredBatch
    batches: dict[str, StoredBatch]
    content: Content
    superseded: tuple[Exclusion, ...]

    @classmethod
    def of(cls, parent: ParentVersion, stored: StoredBatch) -> "NextVersion":
        """Put a batch in force, whole, over a parent; where edits disagree the newer counts."""
        before = Content.of(parent.manifest)
        digest = stored.record.digest
        others = {name: batch.edits for name, batch in parent.batches.items()}
        # the run that will hold the batch is not known yet: only `publish` writes the reference
        content = before.with_batch(stored.reference("new"), stored.edits, others)
        out = before.excluded()
        new = {item.pair: item for item in content.exclusions if item.pair not in out}
        superseded = tuple(new[pair] for pair in sorted(new))
        return cls(stored, {**parent.batches, digest: stored}, content, superseded)

    def in_force(self) -> list[tuple[Pair, Edit]]:
        """Return every edit that the version answers by, with its (batch, id)."""
        return list(in_force(self.content, {d: b.edits for d, b in self.batches.items()}))

    def parts(self) -> list[Part]:
        """Return what is to be composed."""
        return parts_of(self.content, self.batches)


def parts_of(content: Content, batches: Mapping[str, StoredBatch]) -> list[Part]:
    """Return what is to be composed for a content, whose batches were read."""
    return _parts({digest: batches[digest] for digest in content.batches}, content.excluded())


def weights_of(batches: Mapping[str, StoredBatch], excluded: Collection[Pair]) -> Weights | None:
    """Return the deltas among some batches that are in force, None where there are none."""
    deltas = {digest: one for digest, one in batches.items() if isinstance(one.patch, Delta)}
    return compose(_parts(deltas, excluded)).weights


def delta_edits(batches: Mapping[str, StoredBatch], excluded: Collection[Pair]) -> tuple[Edit, ...]:
    """Return the edits in force of the deltas among some batches, in the order of learning."""
    out = set(excluded)
    deltas = {d: one.record.context for d, one in batches.items() if isinstance(one.patch, Delta)}
    return tuple(
        edit
        for digest in learned_order(deltas)
        for edit in batches[digest].edits
        if (digest, edit.id) not in out
    )


def _parts(batches: Mapping[str, StoredBatch], excluded: Collection[Pair]) -> list[Part]:
    out: dict[str, set[str]] = {}
    for batch, edit in excluded:
        out.setdefault(batch, set()).add(edit)
    return [
        Part(digest, batches[digest].patch, frozenset(out.get(digest, ())))
        for digest in sorted(batches)
    ]
