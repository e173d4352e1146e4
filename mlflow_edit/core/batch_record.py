"""What a stored batch is made of, by digest: the unit that is kept once and never changed."""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from mlflow_edit.core.digest import canonical_json, json_digest
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.manifest import Digest, read_sealed
from mlflow_edit.core.text import NORMAL, READABLE
from mlflow_edit.errors import IntegrityError

BATCH_FORMAT: Final = "mledit.batch/1"

Name = Annotated[str, Field(min_length=1, max_length=100), NORMAL, READABLE]
ParamValue = Annotated[str, NORMAL, READABLE] | int | float | bool | None


class BatchRecord(FrozenModel):
    """The base model, the editor with its settings, the edits and the patch that came of them."""

    model_config = ConfigDict(allow_inf_nan=False)

    format: Literal["mledit.batch/1"] = BATCH_FORMAT
    base: Digest
    editor: Name
    params: dict[Name, ParamValue]
    kind: Literal["codebook", "delta", "memory"]
    n_edits: Annotated[int, Field(ge=0)]
    edits: Digest
    patch: Digest

    @property
    def digest(self) -> str:
        """Name the batch by its content."""
        return json_digest(self.model_dump(mode="json"))

    def to_bytes(self) -> bytes:
        """Write the canonical JSON of the record and its own digest."""
        return canonical_json({**self.model_dump(mode="json"), "digest": self.digest})

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str | None = None) -> "BatchRecord":
        """Read and verify a record. Law: `from_bytes(r.to_bytes()) == r`.

        Raises:
            UnsupportedFormat, DigestMismatch, IntegrityError: as `Manifest.from_bytes`.
        """
        fields = read_sealed(data, format=BATCH_FORMAT, what="batch", digest=digest)
        try:
            record = cls.model_validate_json(canonical_json(fields))
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise IntegrityError(f"the batch is malformed: {said}") from error
        if record.digest != json_digest(fields):
            raise IntegrityError("the batch is not in canonical form")
        return record
