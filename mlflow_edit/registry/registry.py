"""Where versions live: the one interface between the verbs and a store."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_edit.core.approval import Answered, Question
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.gate import Gate
from mlflow_edit.core.ledger import Entry
from mlflow_edit.core.manifest import BaseRef, BatchRef, Manifest
from mlflow_edit.core.results import Provenance
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError, LostRaceError, RegistryError, VersionNotFound
from mlflow_edit.registry.names import HEAD, VersionRef

if TYPE_CHECKING:  # reading history must not wait for torch
    from mlflow_edit.patches.patch import Patch
    from mlflow_edit.registry.stored_batch import StoredBatch

MAX_RACES = 200
MIN_PREFIX = 4  # digits of a digest that may stand for it


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """What a list of versions shows of one: no artifact is read for it."""

    name: str
    version: int
    digest: str
    content_digest: str
    parents: tuple[str, ...]
    author: str
    created_at: str
    message: str
    run_id: str
    model_id: str
    n_edits: int
    n_batches: int
    n_contextual: int = 0  # deltas that act on other weights than they were learned on
    aliases: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    experiment_id: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A version about to be published: everything that it will name.

    `manifest` is told the id of the run that will hold the new batch, and gives the manifest.
    `relearned` are batches of the parents that were learned again; where there are, `batch` is
    None. `review` becomes the version's tag `mledit.review`.
    """

    name: str
    verb: str
    manifest: Callable[[str], Manifest]
    base: BaseRef
    scorecard: Scorecard
    batch: "StoredBatch | None" = None
    relearned: "tuple[StoredBatch, ...]" = ()
    started_at: float | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    provenance: Provenance | None = None
    documents: Callable[[Manifest], dict[str, bytes]] = lambda manifest: {}
    description: Callable[[VersionInfo], str] = lambda info: ""
    review: str = ""


@dataclass(frozen=True, slots=True)
class ReviewQueue:
    """The review queue of a version: where it is seen, and what was answered, by question.

    `link` is a URL, or the part of one after the server's address where that is not known.
    """

    link: str
    asked: dict[str, Answered]


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that a crash left behind: no version names it.

    `kind` is `run`, `model` (a LoggedModel) or `batch`; `age` is in seconds.
    """

    kind: str
    id: str
    status: str
    age: float
    n_bytes: int = 0


class Registry(ABC):
    """A store of versions. Every registry obeys:

    * `publish` makes a version visible by its last act, after all that it names is stored and was
      read back and verified; a failure before leaves no version;
    * what is published is never changed: reading gives it back, or raises IntegrityError;
    * a batch is stored once, however many versions name it;
    * two writers on one parent both succeed: the history forks.
    """

    @abstractmethod
    def add_base(
        self, folder: Path, *, digest: str, source: str, advance: Callable[[str], None]
    ) -> BaseRef:
        """Store a base model from a folder, once for each digest."""

    @abstractmethod
    def find_base(self, uri: str) -> tuple[str, Path]:
        """Pin a base model that is stored already: return its permanent URI and a local copy.

        Raises:
            VersionNotFound: there is none under that URI.
        """

    @abstractmethod
    def base_folder(self, base: BaseRef) -> Path:
        """Return a local copy of a base model; the caller verifies its digest."""

    @abstractmethod
    def encoder_folder(self, digest: str) -> Path | None:
        """Return a local copy of a stored sentence encoder, None where there is none.

        Encoders are stored as base models are (`add_base`), by the digest of their files.
        """

    def forget_base(self, base: BaseRef) -> None:  # noqa: B027
        """Drop whatever copy of a base model is kept outside of the store."""

    @abstractmethod
    def create_model(self, name: str) -> None:
        """Make room for versions under `name`; nothing happens where there is."""

    @abstractmethod
    def publish(self, draft: Draft) -> VersionInfo:
        """Store a version and all that it names, then make it visible."""

    @abstractmethod
    def models(self) -> list[str]:
        """List the names of edited models."""

    @abstractmethod
    def versions(self, name: str) -> list[VersionInfo]:
        """List the versions of a model, oldest first.

        Raises:
            VersionNotFound: no such model.
        """

    @abstractmethod
    def manifest(self, info: VersionInfo) -> Manifest:
        """Read and verify the manifest of a version."""

    @abstractmethod
    def scorecard(self, info: VersionInfo, manifest: Manifest) -> Scorecard:
        """Read and verify the scorecard of a version."""

    @abstractmethod
    def edits(self, ref: BatchRef) -> EditBatch:
        """Read and verify the edits of a batch, without its patch."""

    @abstractmethod
    def patch(self, ref: BatchRef) -> "Patch":
        """Read and verify the patch of a batch, without its edits."""

    @abstractmethod
    def batch(self, ref: BatchRef) -> "StoredBatch":
        """Read and verify a batch."""

    @abstractmethod
    def stored_batch(self, ref: BatchRef) -> "StoredBatch":
        """Read and verify a batch from the store itself, past any cache."""

    def batches(self, manifest: Manifest) -> "dict[str, StoredBatch]":
        """Read and verify all batches of a version, by digest.

        Raises:
            IntegrityError: one is damaged, or was made for another base model.
        """
        found = {ref.digest: self.batch(ref) for ref in manifest.batches}
        for digest, stored in found.items():
            if stored.record.base != manifest.base.digest:
                raise IntegrityError(
                    f"batch {digest[:12]} was made for the base model {stored.record.base[:12]}, "
                    f"not for {manifest.base.digest[:12]}"
                )
        return found

    @abstractmethod
    def provenance(self, run_id: str) -> Provenance | None:
        """Return where the edits of a run came from, if that was noted."""

    @abstractmethod
    def document(self, info: VersionInfo, name: str) -> bytes | None:
        """Read a document of the run that made a version, or None where there is none."""

    @abstractmethod
    def record_evaluation(
        self, info: VersionInfo, scorecard: Scorecard, documents: dict[str, bytes]
    ) -> str:
        """Keep a later measurement of a version as a run of its own, and return the run's id."""

    @abstractmethod
    def ledger(self, name: str) -> dict[int, Entry]:
        """Read the decisions about a model, by number.

        Raises:
            IntegrityError: an entry is malformed.
        """

    @abstractmethod
    def append(self, name: str, number: int, entry: Entry) -> bool:
        """Write an entry under a number that is free, or return False where it is taken.

        Of several writers of one number exactly one succeeds; what is written is never changed.
        """

    def record(self, name: str, decide: Callable[[dict[int, Entry]], Entry]) -> tuple[int, Entry]:
        """Append what `decide` makes of the ledger so far; it is asked again if somebody else came
        first, so that no decision is taken on what is out of date.

        Raises:
            LostRaceError: somebody else came first, again and again.
        """
        for _ in range(MAX_RACES):
            entries = self.ledger(name)
            number = max(entries, default=0) + 1
            entry = decide(entries)
            if self.append(name, number, entry):
                return number, entry
        raise LostRaceError(f"the ledger of {name} is written to without end", hint="Try again.")

    @abstractmethod
    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Point an alias at a version, or at none. The last writer wins."""

    @abstractmethod
    def gates(self, name: str) -> dict[str, Gate]:
        """Return the gates that stand on a model, by the alias that each protects.

        Raises:
            InvalidInputError: one cannot be read.
        """

    @abstractmethod
    def set_gate(self, name: str, alias: str, gate: Gate | None) -> None:
        """Let a gate stand on a model for an alias, or take it off.

        Raises:
            GateError: the server lets only who may manage the model change it.
        """

    @abstractmethod
    def tag(self, info: VersionInfo, key: str, value: str) -> None:
        """Put a short tag on a version, for whoever looks at it in the store's own pages."""

    @abstractmethod
    def tagged(self, info: VersionInfo, key: str) -> str | None:
        """Read a tag of a version, None where it has none of that name."""

    def no_queues(self, name: str) -> str | None:
        """Say why the versions of a model can have no review queue, None where they can."""
        return "this store has no review queues"

    def ask(self, info: VersionInfo, questions: Sequence[Question]) -> ReviewQueue:
        """Put questions into the review queue of a version, which is made where there is none.

        What was asked before stays as it was answered: whoever asks all of it again mends a queue
        that a crash left half full.

        Raises:
            RegistryError: this store has no review queues, or refused.
        """
        raise RegistryError(f"this store has no review queues; {info.name} is reviewed by its page")

    def review_queue(self, info: VersionInfo) -> ReviewQueue | None:
        """Read the review queue of a version, None where it has none."""
        return None

    def set_stage(self, name: str, version: int, stage: str) -> None:
        """Move a version to one of MLflow's deprecated stages.

        Raises:
            RegistryError: this store has no stages.
        """
        raise RegistryError(f"this store has no stages; {name}@{version} stays where it is")

    def register_plain(self, name: str, folder: Path, *, source: VersionInfo, base: BaseRef) -> str:
        """Register a plain transformers model, written from a version, and return `NAME@N`.

        Raises:
            RegistryError: this store holds edited models only.
        """
        raise RegistryError(f"this store holds edited models only; {folder} is not registered")

    @abstractmethod
    def inconsistencies(self, info: VersionInfo, manifest: Manifest) -> list[str]:
        """Say where what the store shows of a version differs from its manifest."""

    @abstractmethod
    def mend(self, info: VersionInfo, manifest: Manifest) -> None:
        """Make what the store shows of a version agree with its manifest, where it can be."""

    @abstractmethod
    def leftovers(self, name: str) -> list[Leftover]:
        """List what no version names: of writers that crashed, or that are still at work."""

    @abstractmethod
    def remove(self, name: str, leftover: Leftover) -> None:
        """Delete a leftover."""

    def resolve(self, ref: VersionRef) -> VersionInfo:
        """Find the version that a reference names.

        Raises:
            VersionNotFound: none, or several digests begin like that.
        """
        return choose(ref, self.versions(ref.name))


def choose(ref: VersionRef, versions: Sequence[VersionInfo]) -> VersionInfo:
    """Pick the version that a reference names: number, then alias, then head, then digest."""
    if not versions:
        raise VersionNotFound(
            f"{ref.name} has no versions", hint=f"mledit init {ref.name} --base …"
        )
    if ref.ref == HEAD:
        return versions[-1]
    found = [v for v in versions if ref.ref == str(v.version)]
    found = found or [v for v in versions if ref.ref in v.aliases]
    if not found and len(ref.ref) >= MIN_PREFIX:
        prefix = ref.ref.lower()
        found = [v for v in versions if v.digest.startswith(prefix)]
        found = found or [v for v in versions if v.content_digest.startswith(prefix)]
    if len(found) == 1 or (found and len({v.content_digest for v in found}) == 1):
        return found[-1]
    if found:
        numbers = ", ".join(str(v.version) for v in found)
        raise VersionNotFound(f"{ref} is ambiguous: versions {numbers}", hint="Write more digits.")
    aliases = sorted({alias for v in versions for alias in v.aliases})
    raise VersionNotFound(
        f"there is no version {ref}",
        hint=f"{ref.name} has versions 1 to {versions[-1].version}"
        + (f" and the aliases {', '.join(aliases)}." if aliases else " and no aliases."),
    )


def heads(versions: Sequence[VersionInfo]) -> list[VersionInfo]:
    """Return the versions that no other version names as parent."""
    named = {parent for version in versions for parent in version.parents}
    return [version for version in versions if version.digest not in named]


def heads_to_join(versions: Sequence[VersionInfo]) -> list[VersionInfo]:
    """Return the newest head of each content: joining two of the same content changes nothing."""
    newest = {version.content_digest: version for version in heads(versions)}
    return sorted(newest.values(), key=lambda version: version.version)
