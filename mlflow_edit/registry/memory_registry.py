"""A registry in memory: the double for tests of verbs and of plug-ins, with the same laws."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_edit.core.manifest import BaseRef, BatchRef, Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError, VersionNotFound
from mlflow_edit.registry.names import MANIFEST, SCORECARD, model_name
from mlflow_edit.registry.registry import Draft, Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch


@dataclass(slots=True)
class _Stored:
    info: VersionInfo
    files: dict[str, bytes]
    description: str


class MemoryRegistry(Registry):
    """Keeps everything as bytes, and reads it back through the same checks as any other store."""

    def __init__(self) -> None:
        self.batches: dict[str, dict[str, bytes]] = {}
        self.bases: dict[str, Path] = {}
        self._models: dict[str, list[_Stored]] = {}
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
        if draft.batch is not None:
            self.batches.setdefault(draft.batch.record.digest, draft.batch.files())
        for ref in manifest.batches:
            self.batch(ref)
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
                metrics=draft.scorecard.metrics(),
            )
            stored.append(_Stored(info, files, draft.description(info)))
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

    def batch(self, ref: BatchRef) -> StoredBatch:
        """Read a batch."""
        if ref.digest not in self.batches:
            raise IntegrityError(f"batch {ref.digest[:12]} is not in the store")
        return StoredBatch.from_files(self.batches[ref.digest], digest=ref.digest)

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

    def set_alias(self, info: VersionInfo, alias: str) -> None:
        """Point an alias at a version, for tests."""
        for stored in self._models[info.name]:
            kept = tuple(a for a in stored.info.aliases if a != alias)
            added = (*kept, alias) if stored.info.version == info.version else kept
            stored.info = replace(stored.info, aliases=added)

    def _stored(self, info: VersionInfo) -> _Stored:
        return self._models[info.name][info.version - 1]
