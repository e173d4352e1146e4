"""A batch as it is stored: three files, and the checks that they pass on the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import BatchRef
from mlflow_edit.errors import CorruptPatch
from mlflow_edit.patches.format import patch_digest, read_patch, write_patch
from mlflow_edit.patches.patch import Patch
from mlflow_edit.registry.names import BATCH_FILES, EDITS, PATCH, RECORD
from mlflow_edit.registry.stored_edits import read_edits, read_record


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """The edits of one `apply`, the patch they left behind, and the record that ties them."""

    record: BatchRecord
    edits: EditBatch
    patch: Patch

    @classmethod
    def of(
        cls,
        *,
        base: str,
        editor: str,
        params: Mapping[str, str | int | float | bool | None],
        edits: EditBatch,
        patch: Patch,
        context: Sequence[str] = (),
    ) -> "StoredBatch":
        """Make the record of a batch that was just learned.

        Raises:
            CorruptPatch: the patch is not of these edits.
        """
        record = BatchRecord(
            base=base,
            editor=editor,
            params=dict(params),
            kind=patch.kind,
            n_edits=len(edits),
            edits=edits.digest,
            patch=patch_digest(patch),
            context=tuple(sorted(context)),
        )
        return cls(record, edits, patch)._checked()

    def files(self) -> dict[str, bytes]:
        """Write the files of the batch, by name."""
        return {
            RECORD: self.record.to_bytes(),
            EDITS: self.edits.to_jsonl(),
            PATCH: write_patch(self.patch),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, digest: str) -> "StoredBatch":
        """Read and verify a batch. Law: `from_files(b.files(), digest=b.record.digest) == b`.

        Raises:
            IntegrityError: a file is missing, damaged, or not the one that the digest names.
        """
        missing = [name for name in BATCH_FILES if name not in files]
        if missing:
            raise CorruptPatch(f"batch {digest[:12]}: {', '.join(missing)} is missing")
        record = read_record(files, digest=digest)
        edits, patch = read_edits(files, record), read_patch(files[PATCH], digest=record.patch)
        return cls(record, edits, patch)._checked()

    def reference(self, run_id: str) -> BatchRef:
        """Make the line that stands for this batch in a manifest."""
        return BatchRef(
            digest=self.record.digest,
            editor=self.record.editor,
            kind=self.record.kind,
            n_edits=self.record.n_edits,
            bytes=sum(map(len, self.files().values())),
            run_id=run_id,
            context=self.record.context,
        )

    def _checked(self) -> "StoredBatch":
        """Check that patch and edits belong together: weights are of all edits, or of none."""
        used, ids = self.patch.edit_ids_used(), {edit.id for edit in self.edits}
        whole = self.patch.kind != "delta" or used == ids
        if self.patch.kind != self.record.kind or used - ids or not whole:
            raise CorruptPatch(
                f"batch {self.record.digest[:12]}: its patch is not of its edits",
                hint="A delta names every edit that was solved, and no other.",
            )
        return self
