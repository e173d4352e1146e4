"""What a version becomes by one more batch: which batches, which edits in force."""

from dataclasses import dataclass
from typing import Any

from mlflow_edit.core.edit import Edit, normal_text
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import Exclusion, Manifest
from mlflow_edit.editors.editor import Editor
from mlflow_edit.patches.composition import Part
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
        return cls(info, manifest, {b.digest: registry.batch(b) for b in manifest.batches})

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


@dataclass(frozen=True, slots=True)
class NextVersion:
    """A parent and one more batch; `superseded` are the parent's edits that it replaces."""

    parent: ParentVersion
    stored: StoredBatch
    exclusions: tuple[Exclusion, ...]
    superseded: tuple[Exclusion, ...]

    @classmethod
    def of(cls, parent: ParentVersion, stored: StoredBatch) -> "NextVersion":
        """Put a batch in force, whole, over a parent; where edits disagree the newer counts."""
        mine = stored.record.digest
        kept = tuple(item for item in parent.manifest.exclusions if item.batch != mine)
        wanted = {normal_text(edit.prompt): edit.label_digest for edit in stored.edits}
        out = {(item.batch, item.edit) for item in kept}
        superseded = tuple(
            Exclusion(batch=digest, edit=edit.id, reason="superseded")
            for digest, batch in parent.batches.items()
            for edit in batch.edits
            if digest != mine
            and (digest, edit.id) not in out
            and wanted.get(normal_text(edit.prompt), edit.label_digest) != edit.label_digest
        )
        return cls(parent, stored, (*kept, *superseded), superseded)

    @property
    def batches(self) -> dict[str, StoredBatch]:
        """All batches, by digest."""
        return {**self.parent.batches, self.stored.record.digest: self.stored}

    def excluded(self, batch: str) -> frozenset[str]:
        """Return the ids of the edits of a batch that are left out."""
        return frozenset(item.edit for item in self.exclusions if item.batch == batch)

    def in_force(self) -> list[tuple[str, Edit]]:
        """Return (batch, edit) for every edit that the version answers by."""
        return [
            (digest, edit)
            for digest, batch in self.batches.items()
            for edit in batch.edits
            if edit.id not in self.excluded(digest)
        ]

    def parts(self) -> list[Part]:
        """Return what is to be composed."""
        return [Part(d, batch.patch, self.excluded(d)) for d, batch in self.batches.items()]
