"""The record and the edits of a stored batch, verified without its patch."""

from collections.abc import Mapping

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.edit_file import parse_edits
from mlflow_edit.core.manifest import BatchRef
from mlflow_edit.errors import CorruptPatch, DigestMismatch, IntegrityError, InvalidEdit
from mlflow_edit.registry.names import EDITS, RECORD


def read_record(files: Mapping[str, bytes], *, digest: str) -> BatchRecord:
    """Read the record of a batch.

    Raises:
        IntegrityError: it is missing, damaged, or not the one that the digest names.
    """
    if RECORD not in files:
        raise CorruptPatch(f"batch {digest[:12]}: {RECORD} is missing")
    return BatchRecord.from_bytes(files[RECORD], digest=digest)


def read_edits(files: Mapping[str, bytes], record: BatchRecord) -> EditBatch:
    """Read the edits of a batch.

    Raises:
        IntegrityError: they are missing, damaged, or not those of the record.
    """
    name = f"batch {record.digest[:12]}"
    if EDITS not in files:
        raise CorruptPatch(f"{name}: {EDITS} is missing")
    try:
        edits = parse_edits(files[EDITS].decode(), format="jsonl").batch
    except (InvalidEdit, UnicodeDecodeError) as error:
        raise CorruptPatch(f"{name}: its edits are damaged: {error}") from error
    if edits.digest != record.edits or edits.to_jsonl() != files[EDITS]:
        raise DigestMismatch(f"{name}: its edits were changed after it was stored")
    if len(edits) != record.n_edits:
        raise CorruptPatch(f"{name}: {len(edits)} edits, but its record says {record.n_edits}")
    return edits


def check_reference(record: BatchRecord, ref: BatchRef) -> None:
    """Check what a manifest says of a batch against the batch itself.

    Raises:
        IntegrityError: they differ.
    """
    said = (ref.editor, ref.kind, ref.n_edits)
    found = (record.editor, record.kind, record.n_edits)
    if said != found:
        raise IntegrityError(f"batch {ref.digest[:12]} is {found}, but the manifest says {said}")
