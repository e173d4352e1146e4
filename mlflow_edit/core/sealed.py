"""Values that are stored as canonical JSON with their own digest: any changed byte is noticed."""

import json
from reprlib import repr as short
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, ValidationError

from mlflow_edit.core.digest import canonical_json, json_digest
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.errors import DigestMismatch, IntegrityError, InvalidInputError, UnsupportedFormat

MAX_BYTES = 64 * 1024 * 1024


class Sealed(FrozenModel):
    """A value with a file of its own.

    Fields that are at their default are not written, so that a later release can add one without
    changing the digest of what is stored already. Law: `from_bytes(v.to_bytes()) == v`.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    what: ClassVar[str]
    format: str

    @property
    def digest(self) -> str:
        """Name the value by its content."""
        return json_digest({"format": self.format, **self.written()})

    def to_bytes(self) -> bytes:
        """Write the canonical JSON of the value and its own digest."""
        return canonical_json({"format": self.format, **self.written(), "digest": self.digest})

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str | None = None) -> Self:
        """Read and verify a value.

        Args:
            data: the bytes of its file.
            digest: the digest by which it is known; None accepts any.

        Raises:
            UnsupportedFormat: written by a release with another format.
            DigestMismatch: the content has not its own, or not the expected, digest.
            IntegrityError: malformed, or not in canonical form.
        """
        fields = _unsealed(data, str(cls.model_fields["format"].default), cls.what, digest)
        try:
            value = cls.model_validate_json(canonical_json(fields))
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise IntegrityError(f"the {cls.what} is malformed: {said}") from error
        if value.digest != json_digest(fields):
            raise IntegrityError(f"the {cls.what} is not in canonical form")
        return value


def _unsealed(data: bytes, format: str, what: str, digest: str | None) -> dict[str, Any]:
    """Read canonical JSON that carries its own digest, and return the fields without it."""
    if len(data) > MAX_BYTES:
        raise IntegrityError(f"the {what} is larger than {MAX_BYTES:,} bytes")
    try:
        fields = json.loads(data)
        canonical = canonical_json(fields)
    except (ValueError, RecursionError, InvalidInputError) as error:
        raise IntegrityError(f"the {what} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise IntegrityError(f"the {what} is not a JSON object")
    found = fields.get("format")
    if found != format:
        raise UnsupportedFormat(
            f"the {what} has format {short(found)}; this release reads {format!r}",
            hint="Install the release of mlflow-edit that wrote it, or a newer one.",
        )
    if canonical != data:
        raise IntegrityError(f"the {what} is not in canonical form: it was changed after writing")
    sealed = fields.pop("digest", None)
    actual = json_digest(fields)
    if sealed != actual or (digest is not None and digest != actual):
        raise DigestMismatch(
            f"the {what} has digest {actual[:12]}, expected {(digest or str(sealed))[:12]}",
            hint="The stored file was changed or damaged after it was registered.",
        )
    return fields
