"""What a version is: a base model, a set of batches and the resolutions between them."""

from collections.abc import Collection
from datetime import datetime
from functools import cached_property
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.sealed import Sealed
from mlflow_edit.core.text import NORMAL, READABLE, EditId

MANIFEST_FORMAT: Final = "mledit.manifest/1"


def _moment(text: str) -> str:
    datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")  # raises ValueError on 31 February
    return text


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _ascending(digests: tuple[str, ...]) -> tuple[str, ...]:
    if list(digests) != sorted(set(digests)):
        raise ValueError("digests must be ascending, each once")
    return digests


Digests = Annotated[tuple[Digest, ...], AfterValidator(_ascending)]
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
    """One stored batch, by the digest of its content, and the run that holds it.

    `context` are the delta batches that were in force when it was learned (see
    `core.contextual`).
    """

    digest: Digest
    editor: Annotated[str, Field(min_length=1, max_length=100), NORMAL, READABLE]
    kind: Literal["codebook", "delta", "memory"]
    n_edits: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    run_id: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]
    context: Digests = ()


class Exclusion(FrozenModel):
    """One edit of a batch that this version leaves out, and why.

    `superseded`, by a later edit; `reverted`, by hand; `contradiction`, by the resolution of a
    merge. `by` and `by_edit` name the edit in whose favour: when that one goes, this one returns.
    """

    batch: Digest
    edit: EditId
    reason: Literal["superseded", "reverted", "contradiction"]
    by: Digest | None = None
    by_edit: EditId | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """The edit that is left out, by batch and id."""
        return self.batch, self.edit

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What there is only one of in a manifest: an edit, left out in favour of another."""
        return self.batch, self.edit, self.by or "", self.by_edit or ""


class Resolution(FrozenModel):
    """How one conflict of a merge was settled; what that does stands among the exclusions."""

    conflict: Annotated[str, Field(pattern=r"^c-[0-9a-f]{10}$")]
    kind: Annotated[str, Field(min_length=1, max_length=40)]
    choice: Literal["ours", "theirs", "drop", "both", "accept"]


class Merging(FrozenModel):
    """How the weight deltas of two sides became one batch: the strategy, and its settings."""

    strategy: Annotated[str, Field(min_length=1, max_length=40)]
    batch: Digest
    of: Digests
    density: Annotated[float, Field(gt=0, le=1)] | None = None
    weight: Annotated[float, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None

    @property
    def said(self) -> str:
        """Say it in words."""
        given = self.model_dump(include={"density", "weight", "seed"}, exclude_none=True)
        settings = ", ".join(f"{name} {value:g}" for name, value in given.items())
        made = f"{self.strategy} ({settings})" if settings else self.strategy
        return f"{made}: one batch of {len(self.of)}"


def content_digest(
    base: str, batches: Collection[str], excluded: Collection[tuple[str, str]]
) -> str:
    """Name what a version does, by base, batches and (batch, edit) pairs left out, as sets."""
    return json_digest({"base": base, "batches": sorted(batches), "exclusions": sorted(excluded)})


class Manifest(Sealed):
    """The description of a version.

    `content_digest` names what the version *does*: base, batches and exclusions, as sets. `digest`
    names what it *is*: all of the manifest, with parents, author, time and message. Equal content
    gives equal behaviour, whatever history led there. `weights` names the weights that the deltas
    give, where there are any (see `patches.weights`); `merging` how a merge made one batch of both
    sides'.
    """

    what: ClassVar[str] = "manifest"

    format: Literal["mledit.manifest/1"] = MANIFEST_FORMAT
    base: BaseRef
    parents: tuple[Digest, ...] = ()
    batches: tuple[BatchRef, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    author: Annotated[str, Field(max_length=500), NORMAL, READABLE] = ""
    created_at: Moment
    message: Annotated[str, Field(max_length=20_000), NORMAL, READABLE] = ""
    scorecard: Digest | None = None
    weights: Digest | None = None
    merging: Merging | None = None

    @model_validator(mode="after")
    def _canonical_order(self) -> Self:
        batches = tuple(sorted(self.batches, key=lambda ref: ref.digest))
        exclusions = tuple(sorted(self.exclusions, key=lambda item: item.key))
        resolutions = tuple(sorted(self.resolutions, key=lambda item: item.conflict))
        if len({ref.digest for ref in batches}) != len(batches):
            raise ValueError("a batch is listed twice")
        if len({item.key for item in exclusions}) != len(exclusions):
            raise ValueError("an edit is excluded twice in favour of the same one")
        if len({item.conflict for item in resolutions}) != len(resolutions):
            raise ValueError("a conflict is resolved twice")
        listed = {ref.digest for ref in batches}
        if not {item.batch for item in exclusions} <= listed:
            raise ValueError("an exclusion names a batch that is not listed")
        if not {item.by for item in exclusions if item.by} <= listed:
            raise ValueError("an exclusion is in favour of a batch that is not listed")
        object.__setattr__(self, "batches", batches)
        object.__setattr__(self, "exclusions", exclusions)
        object.__setattr__(self, "resolutions", resolutions)
        return self

    @cached_property
    def content_digest(self) -> str:
        """Name what the version does."""
        pairs = {item.pair for item in self.exclusions}
        return content_digest(self.base.digest, [ref.digest for ref in self.batches], pairs)

    @property
    def n_edits(self) -> int:
        """Count the edits in force."""
        return sum(ref.n_edits for ref in self.batches) - sum(map(len, self._excluded.values()))

    def excluded(self, batch: str) -> frozenset[str]:
        """Return the ids of the edits of `batch` that this version leaves out."""
        return self._excluded.get(batch, frozenset())

    @cached_property
    def _excluded(self) -> dict[str, frozenset[str]]:
        by_batch: dict[str, set[str]] = {}
        for item in self.exclusions:
            by_batch.setdefault(item.batch, set()).add(item.edit)
        return {batch: frozenset(edits) for batch, edits in by_batch.items()}
