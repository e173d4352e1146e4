"""A registry in memory: the double for tests of verbs and of plug-ins, with the same laws."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.contextual import contextual_of
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.gate import Gate
from mlflow_edit.core.ledger import Entry, entry_text, read_entry
from mlflow_edit.core.manifest import BaseRef, BatchRef, Manifest
from mlflow_edit.core.results import Provenance
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError, VersionNotFound
from mlflow_edit.patches.format import read_patch
from mlflow_edit.patches.patch import Patch
from mlflow_edit.registry.names import MANIFEST, PATCH, REVIEW_TAG, SCORECARD, model_name
from mlflow_edit.registry.registry import Draft, Leftover, Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch
from mlflow_edit.registry.stored_edits import check_reference, read_edits, read_record


@dataclass(slots=True)
class _Stored:
    info: VersionInfo
    files: dict[str, bytes]
    description: str
    tags: dict[str, str] = field(default_factory=dict)


class MemoryRegistry(Registry):
    """Keeps everything as bytes, and reads it back through the same checks as any other store."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}  # of batches, by digest
        self.bases: dict[str, Path] = {}
        self._models: dict[str, list[_Stored]] = {}
        self._ledgers: dict[str, dict[int, str]] = {}
        self._gates: dict[str, dict[str, Gate]] = {}
        self._origins: dict[str, Provenance | None] = {}
        self._lock = threading.Lock()
        self._ids = itertools.count(1)

    def add_base(
        self, folder: Path, *, digest: str, source: str, advance: Callable[[str], None]
    ) -> BaseRef:
        """Remember where the folder is."""
        self.bases[digest] = folder
        return BaseRef(digest=digest, uri=f"memory:/{digest}", source=source)

    def find_base(self, uri: str) -> tuple[str, Path]:
        """Find a base by its URI."""
        return uri, self._base(uri.removeprefix("memory:/"))

    def base_folder(self, base: BaseRef) -> Path:
        """Return the folder itself."""
        return self._base(base.digest)

    def encoder_folder(self, digest: str) -> Path | None:
        """Return the folder that was added under the digest."""
        return self.bases.get(digest)

    def _base(self, digest: str) -> Path:
        if digest not in self.bases:
            raise VersionNotFound(f"no base model {digest[:12]}")
        return self.bases[digest]

    def create_model(self, name: str) -> None:
        """Make room for versions."""
        self._models.setdefault(model_name(name), [])

    def publish(self, draft: Draft) -> VersionInfo:
        """Store a version (see `Registry.publish`)."""
        self.versions(draft.name)
        run_id = f"run-{next(self._ids)}"
        manifest = draft.manifest(run_id)
        files = {
            **draft.documents(manifest),
            MANIFEST: manifest.to_bytes(),
            SCORECARD: draft.scorecard.to_bytes(),
        }
        for batch in (*([draft.batch] if draft.batch else []), *draft.relearned):
            self.files.setdefault(batch.record.digest, batch.files())
        for ref in manifest.batches:
            if ref.digest not in self.files:
                raise IntegrityError(f"batch {ref.digest[:12]} is not in the store")
        self._origins[run_id] = draft.provenance
        with self._lock:
            stored = self._models[draft.name]
            info = VersionInfo(
                name=draft.name,
                version=len(stored) + 1,
                digest=manifest.digest,
                content_digest=manifest.content_digest,
                parents=manifest.parents,
                author=manifest.author,
                created_at=manifest.created_at,
                message=manifest.message,
                run_id=run_id,
                model_id=f"m-{run_id}",
                n_edits=manifest.n_edits,
                n_batches=len(manifest.batches),
                n_contextual=len(contextual_of(manifest)),
                metrics=draft.scorecard.metrics(),
            )
            tags = {REVIEW_TAG: draft.review} if draft.review else {}
            stored.append(_Stored(info, files, draft.description(info), tags))
        return info

    def models(self) -> list[str]:
        """List the names of models."""
        return sorted(self._models)

    def versions(self, name: str) -> list[VersionInfo]:
        """List versions, oldest first."""
        if name not in self._models:
            raise VersionNotFound(
                f"there is no model {name!r}", hint=f"mledit init {name} --base …"
            )
        return [stored.info for stored in self._models[name]]

    def manifest(self, info: VersionInfo) -> Manifest:
        """Read a manifest."""
        return Manifest.from_bytes(self._stored(info).files[MANIFEST], digest=info.digest)

    def scorecard(self, info: VersionInfo, manifest: Manifest) -> Scorecard:
        """Read a scorecard."""
        return Scorecard.from_bytes(self._stored(info).files[SCORECARD], digest=manifest.scorecard)

    def edits(self, ref: BatchRef) -> EditBatch:
        """Read the edits of a batch."""
        return read_edits(self._files(ref), self._record(ref))

    def patch(self, ref: BatchRef) -> Patch:
        """Read the patch of a batch."""
        return read_patch(self._files(ref)[PATCH], digest=self._record(ref).patch)

    def batch(self, ref: BatchRef) -> StoredBatch:
        """Read a batch."""
        self._record(ref)
        return StoredBatch.from_files(self._files(ref), digest=ref.digest)

    def stored_batch(self, ref: BatchRef) -> StoredBatch:
        """Read a batch: there is no cache."""
        return self.batch(ref)

    def provenance(self, run_id: str) -> Provenance | None:
        """Return what the draft of a run said."""
        return self._origins.get(run_id)

    def ledger(self, name: str) -> dict[int, Entry]:
        """Read the ledger."""
        self.versions(name)
        entries = self._ledgers.get(name, {})
        return {n: read_entry(text, number=n) for n, text in sorted(entries.items())}

    def append(self, name: str, number: int, entry: Entry) -> bool:
        """Write an entry, if its number is free."""
        self.versions(name)
        text = entry_text(entry)
        with self._lock:
            return self._ledgers.setdefault(name, {}).setdefault(number, text) == text

    def inconsistencies(self, info: VersionInfo, manifest: Manifest) -> list[str]:
        """Find none: what is listed is made from the manifest."""
        return []

    def mend(self, info: VersionInfo, manifest: Manifest) -> None:
        """Do nothing: there is nothing to mend."""

    def leftovers(self, name: str) -> list[Leftover]:
        """List the batches that no version of any model names."""
        stored = [one for versions in self._models.values() for one in versions]
        manifests = [Manifest.from_bytes(one.files[MANIFEST]) for one in stored]
        named = {ref.digest for manifest in manifests for ref in manifest.batches}
        return [
            Leftover("batch", digest, "", 0.0, sum(map(len, files.values())))
            for digest, files in self.files.items()
            if digest not in named
        ]

    def remove(self, name: str, leftover: Leftover) -> None:
        """Drop a batch."""
        self.files.pop(leftover.id, None)

    def _files(self, ref: BatchRef) -> dict[str, bytes]:
        if ref.digest not in self.files:
            raise IntegrityError(f"batch {ref.digest[:12]} is not in the store")
        return self.files[ref.digest]

    def _record(self, ref: BatchRef) -> BatchRecord:
        record = read_record(self._files(ref), digest=ref.digest)
        check_reference(record, ref)
        return record

    def record_evaluation(
        self, info: VersionInfo, scorecard: Scorecard, documents: dict[str, bytes]
    ) -> str:
        """Keep a measurement beside the version's files."""
        run_id = f"run-{next(self._ids)}"
        files = self._stored(info).files
        files[f"{run_id}/{SCORECARD}"] = scorecard.to_bytes()
        files.update({f"{run_id}/{name}": data for name, data in documents.items()})
        return run_id

    def document(self, info: VersionInfo, name: str) -> bytes | None:
        """Return a document of a version."""
        return self._stored(info).files.get(name)

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Point an alias at a version."""
        if version is not None and version not in {info.version for info in self.versions(name)}:
            raise VersionNotFound(f"there is no version {name}@{version}")
        with self._lock:
            for stored in self._models[name]:
                kept = {a for a in stored.info.aliases if a != alias}
                kept |= {alias} if stored.info.version == version else set()
                stored.info = replace(stored.info, aliases=tuple(sorted(kept)))

    def gates(self, name: str) -> dict[str, Gate]:
        """Return the gates of a model."""
        self.versions(name)
        return dict(self._gates.get(name, {}))

    def set_gate(self, name: str, alias: str, gate: Gate | None) -> None:
        """Set or remove a gate."""
        self.versions(name)
        gates = self._gates.setdefault(name, {})
        gates.pop(alias, None)
        if gate is not None:
            gates[alias] = gate

    def tag(self, info: VersionInfo, key: str, value: str) -> None:
        """Put a tag on a version."""
        self._stored(info).tags[key] = value

    def tagged(self, info: VersionInfo, key: str) -> str | None:
        """Read a tag of a version."""
        return self._stored(info).tags.get(key)

    def _stored(self, info: VersionInfo) -> _Stored:
        return self._models[info.name][info.version - 1]
