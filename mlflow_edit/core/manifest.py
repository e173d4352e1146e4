"""What a version is: a base model, a set of batches and the resolutions between them."""

import json
from datetime import datetime
from reprlib import repr as short
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from mlflow_edit.core.digest import canonical_json, json_digest
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.text import NORMAL, READABLE, EditId
from mlflow_edit.errors import DigestMismatch, IntegrityError, InvalidInputError, UnsupportedFormat

MANIFEST_FORMAT: Final = "mledit.manifest/1"
MAX_MANIFEST_BYTES = 64 * 1024 * 1024


def _moment(text: str) -> str:
    datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")  # raises ValueError on 31 February
    return text


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(\.[0-9]{1,9})?Z$"),
    AfterValidator(_moment),
]
"""A time in UTC, as ISO 8601."""


class BaseRef(FrozenModel):
    """The base model, by the digest of its weights and tokenizer; `uri` only says where to look."""

    digest: Digest
    uri: Annotated[str, Field(min_length=1, max_length=2000), NORMAL, READABLE]
    source: Annotated[str, Field(max_length=2000), NORMAL, READABLE] = ""


class BatchRef(FrozenModel):
    """One stored batch, by the digest of its content, and the run that holds it."""

    digest: Digest
    editor: Annotated[str, Field(min_length=1, max_length=100), NORMAL, READABLE]
    kind: Literal["codebook", "delta", "memory"]
    n_edits: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    run_id: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]


class Exclusion(FrozenModel):
    """One edit of a batch that this version leaves out, and why."""

    batch: Digest
    edit: EditId
    reason: Literal["superseded", "reverted", "contradiction"]


class Manifest(FrozenModel):
    """The description of a version.

    `content_digest` names what the version *does*: base, batches and exclusions, as sets. `digest`
    names what it *is*: all of the manifest, with parents, author, time and message. Equal content
    gives equal behaviour, whatever history led there.
    """

    format: Literal["mledit.manifest/1"] = MANIFEST_FORMAT
    base: BaseRef
    parents: tuple[Digest, ...] = ()
    batches: tuple[BatchRef, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    author: Annotated[str, Field(max_length=500), NORMAL, READABLE] = ""
    created_at: Moment
    message: Annotated[str, Field(max_length=20_000), NORMAL, READABLE] = ""
    scorecard: Digest | None = None

    @model_validator(mode="after")
    def _canonical_order(self) -> Self:
        batches = tuple(sorted(self.batches, key=lambda ref: ref.digest))
        exclusions = tuple(sorted(self.exclusions, key=lambda item: (item.batch, item.edit)))
        if len({ref.digest for ref in batches}) != len(batches):
            raise ValueError("a batch is listed twice")
        if len({(item.batch, item.edit) for item in exclusions}) != len(exclusions):
            raise ValueError("an edit is excluded twice")
        if not {item.batch for item in exclusions} <= {ref.digest for ref in batches}:
            raise ValueError("an exclusion names a batch that is not listed")
        object.__setattr__(self, "batches", batches)
        object.__setattr__(self, "exclusions", exclusions)
        return self

    @property
    def content_digest(self) -> str:
        """Name what the version does."""
        return json_digest(
            {
                "base": self.base.digest,
                "batches": [ref.digest for ref in self.batches],
                "exclusions": [[item.batch, item.edit] for item in self.exclusions],
            }
        )

    @property
    def digest(self) -> str:
        """Name what the version is."""
        return json_digest(self.model_dump(mode="json", exclude_none=True))

    @property
    def n_edits(self) -> int:
        """Count the edits in force."""
        return sum(ref.n_edits for ref in self.batches) - len(self.exclusions)

    def excluded(self, batch: str) -> frozenset[str]:
        """Return the ids of the edits of `batch` that this version leaves out."""
        return frozenset(item.edit for item in self.exclusions if item.batch == batch)

    def to_bytes(self) -> bytes:
        """Write the canonical JSON of the manifest and its own digest."""
        return canonical_json(
            {**self.model_dump(mode="json", exclude_none=True), "digest": self.digest}
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str | None = None) -> "Manifest":
        """Read and verify a manifest. Law: `from_bytes(m.to_bytes()) == m`.

        Args:
            data: the bytes of `manifest.json`.
            digest: the digest under which the registry knows it.

        Raises:
            UnsupportedFormat: written by a release with another format.
            DigestMismatch: the content does not have its own, or the expected, digest.
            IntegrityError: not a manifest, or not in canonical form.
        """
        fields = read_sealed(data, format=MANIFEST_FORMAT, what="manifest", digest=digest)
        try:
            manifest = cls.model_validate_json(canonical_json(fields))
        except ValidationError as error:
            raise IntegrityError(
                f"the manifest is malformed: {error.errors()[0]['msg']}"
            ) from error
        if manifest.digest != json_digest(fields):
            raise IntegrityError("the manifest is not in canonical order")
        return manifest


def read_sealed(
    data: bytes, *, format: str, what: str, digest: str | None = None
) -> dict[str, Any]:
    """Read canonical JSON that carries its own digest, and return the fields without it.

    Raises:
        UnsupportedFormat, DigestMismatch, IntegrityError: as `Manifest.from_bytes`.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise IntegrityError(f"the {what} is larger than {MAX_MANIFEST_BYTES:,} bytes")
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
