"""A batch as it is stored: three files, and the checks that they pass on the way back."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.edit_file import parse_edits
from mlflow_edit.core.manifest import BatchRef
from mlflow_edit.errors import CorruptPatch, DigestMismatch, InvalidEdit
from mlflow_edit.patches.format import patch_digest, read_patch, write_patch
from mlflow_edit.patches.patch import Patch

RECORD, EDITS, PATCH = "batch.json", "edits.jsonl", "patch.safetensors"
BATCH_FILES = (RECORD, EDITS, PATCH)


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
    ) -> "StoredBatch":
        """Make the record of a batch that was just learned."""
        record = BatchRecord(
            base=base,
            editor=editor,
            params=dict(params),
            kind=patch.kind,
            n_edits=len(edits),
            edits=edits.digest,
            patch=patch_digest(patch),
        )
        return cls(record, edits, patch)

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
        record = BatchRecord.from_bytes(files[RECORD], digest=digest)
        try:
            edits = parse_edits(files[EDITS].decode(), format="jsonl").batch
        except (InvalidEdit, UnicodeDecodeError) as error:
            raise CorruptPatch(f"batch {digest[:12]}: its edits are damaged: {error}") from error
        if edits.digest != record.edits or edits.to_jsonl() != files[EDITS]:
            raise DigestMismatch(f"batch {digest[:12]}: its edits were changed after it was stored")
        return cls(record, edits, read_patch(files[PATCH], digest=record.patch))

    def reference(self, run_id: str) -> BatchRef:
        """Make the line that stands for this batch in a manifest."""
        return BatchRef(
            digest=self.record.digest,
            editor=self.record.editor,
            kind=self.record.kind,
            n_edits=self.record.n_edits,
            bytes=sum(map(len, self.files().values())),
            run_id=run_id,
        )
