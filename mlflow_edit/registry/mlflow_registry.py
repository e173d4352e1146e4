"""Versions in the MLflow model registry, through `MlflowClient` only."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_edit.core.approval import Question
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.gate import Gate
from mlflow_edit.core.ledger import Entry
from mlflow_edit.core.manifest import BaseRef, BatchRef, Manifest
from mlflow_edit.core.results import Provenance
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError, RegistryError, VersionNotFound
from mlflow_edit.registry import (
    mlflow_artifacts,
    mlflow_care,
    mlflow_evaluations,
    mlflow_ledger,
    mlflow_plain,
    mlflow_publish,
)
from mlflow_edit.registry.mlflow_bases import MlflowBases
from mlflow_edit.registry.mlflow_batches import MlflowBatches
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.mlflow_review_queue import MlflowReviewQueues
from mlflow_edit.registry.mlflow_versions import (
    PAGE,
    logged_models,
    model_versions,
    provenance_of_tags,
    version_info,
)
from mlflow_edit.registry.names import (
    MANIFEST,
    SCORECARD,
    experiment_name,
    model_name,
    shown_uri,
)
from mlflow_edit.registry.registry import Draft, Leftover, Registry, ReviewQueue, VersionInfo

if TYPE_CHECKING:  # reading history must not wait for torch
    from mlflow_edit.patches.patch import Patch
    from mlflow_edit.registry.stored_batch import StoredBatch


class MlflowRegistry(Registry):
    """Versions of edited models in an MLflow tracking server or database.

    Args:
        tracking_uri: where; None takes MLflow's own setting. It becomes the process's tracking
            URI, because MLflow resolves `models:/m-…` through the global one.

    Raises:
        RegistryError: the store is a plain folder of files, which MLflow no longer supports.
    """

    def __init__(self, tracking_uri: str | None = None) -> None:
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        if tracking_uri is not None:
            mlflow.set_tracking_uri(tracking_uri)
        self.tracking_uri: str = mlflow.get_tracking_uri()
        if urlparse(self.tracking_uri).scheme in ("", "file") and not self._is_databricks():
            raise RegistryError(
                f"the tracking store {self.tracking_uri} is a folder of files",
                hint="Use a database or a server: MLFLOW_TRACKING_URI=sqlite:///mlflow.db",
            )
        with mlflow_errors(f"opening {shown_uri(self.tracking_uri)}"):
            self.client = MlflowClient()
        self._bases = MlflowBases(self.client)
        self._batches = MlflowBatches(self.client)
        self._queues = MlflowReviewQueues(self.client, self.tracking_uri)

    def _is_databricks(self) -> bool:
        return self.tracking_uri == "databricks"

    def add_base(
        self, folder: Path, *, digest: str, source: str, advance: Callable[[str], None]
    ) -> BaseRef:
        """Log the base as a LoggedModel, once for each digest."""
        return self._bases.add(folder, digest=digest, source=source, advance=advance)

    def find_base(self, uri: str) -> tuple[str, Path]:
        """Pin a logged model by its `models:/m-…` URI."""
        return self._bases.find(uri)

    def base_folder(self, base: BaseRef) -> Path:
        """Return a local copy of a base model."""
        return self._bases.folder(base)

    def encoder_folder(self, digest: str) -> Path | None:
        """Return a local copy of an encoder."""
        return self._bases.stored(digest)

    def forget_base(self, base: BaseRef) -> None:
        """Drop the cached copy of a base model."""
        self._bases.forget(base)

    def create_model(self, name: str) -> None:
        """Create the registered model, or find it there."""
        with mlflow_errors(f"creating the model {name}"):
            try:
                self.client.create_registered_model(model_name(name), tags={"mledit.model": "1"})
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                self.client.set_registered_model_tag(name, "mledit.model", "1")

    def publish(self, draft: Draft) -> VersionInfo:
        """Store, read back, then register (see `Registry.publish`)."""
        with mlflow_publish.open_run(self.client, draft) as run_id:
            manifest = draft.manifest(self._batches.run_with(draft) or run_id)
            with mlflow_publish.open_model(self.client, draft, manifest, run_id) as model_id:
                stored = mlflow_publish.Published(manifest, run_id, model_id)
                mlflow_publish.store(self.client, draft, stored)
                info = self._read_back(draft, stored)
                mlflow_publish.close(self.client, stored)
                number = mlflow_publish.make_visible(self.client, draft, stored, info)
        return replace(info, version=number)

    def models(self) -> list[str]:
        """List the registered models that hold versions of ours."""
        with mlflow_errors("listing models"):
            found = self.client.search_registered_models(
                filter_string="tags.`mledit.model` = '1'", max_results=PAGE
            )
        return sorted(model.name for model in found)

    def versions(self, name: str) -> list[VersionInfo]:
        """List versions from two queries: the registry's, and the LoggedModels'."""
        name = model_name(name)
        with mlflow_errors(f"listing versions of {name}"):
            experiment = self.client.get_experiment_by_name(experiment_name(name))
            if experiment is None:
                raise VersionNotFound(
                    f"there is no edited model {name!r}", hint=f"mledit init {name} --base …"
                )
            aliases: dict[str, list[str]] = {}
            for alias, number in self.client.get_registered_model(name).aliases.items():
                aliases.setdefault(str(number), []).append(alias)
            registered = model_versions(self.client, name)  # before the models that they name
            logged = logged_models(self.client, experiment.experiment_id)
            infos = []
            for found in registered:
                model = logged.get(str(found.source).removeprefix("models:/"))
                if model is None and "mledit.digest" in found.tags:
                    raise IntegrityError(
                        f"the LoggedModel of {name}@{found.version} is gone",
                        hint="It was deleted in MLflow; restore it, or delete the version too.",
                    )
                if model is not None:
                    info = version_info(name, int(found.version), model)
                    known_as = tuple(sorted(aliases.get(str(found.version), [])))
                    infos.append(replace(info, aliases=known_as))
        return sorted(infos, key=lambda info: info.version)

    def manifest(self, info: VersionInfo) -> Manifest:
        """Read the manifest, against the digest among the LoggedModel's write-once parameters."""
        data = mlflow_artifacts.read_model_file(self.client, info.model_id, MANIFEST)
        return Manifest.from_bytes(data, digest=info.digest)

    def digest_of(self, model_id: str) -> str:
        """Return the digest of the version that a LoggedModel holds.

        Raises:
            IntegrityError: it holds none.
        """
        with mlflow_errors(f"reading model {model_id}"):
            return version_info("", 0, self.client.get_logged_model(model_id)).digest

    def scorecard(self, info: VersionInfo, manifest: Manifest) -> Scorecard:
        """Read the scorecard, against the digest in the manifest."""
        data = mlflow_artifacts.read_model_file(self.client, info.model_id, SCORECARD)
        return Scorecard.from_bytes(data, digest=manifest.scorecard)

    def edits(self, ref: BatchRef) -> EditBatch:
        """Read the edits of a batch."""
        return self._batches.edits(ref)

    def patch(self, ref: BatchRef) -> "Patch":
        """Read the patch of a batch."""
        return self._batches.patch(ref)

    def batch(self, ref: BatchRef) -> "StoredBatch":
        """Read a batch from the run that made it."""
        return self._batches.cached(ref)

    def stored_batch(self, ref: BatchRef) -> "StoredBatch":
        """Read a batch from the store itself, past the cache."""
        return self._batches.stored(ref)

    def provenance(self, run_id: str) -> Provenance | None:
        """Read the tags of a run that say where its edits came from."""
        with mlflow_errors(f"reading run {run_id}"):
            tags = self.client.get_run(run_id).data.tags
        return provenance_of_tags(tags)

    def ledger(self, name: str) -> dict[int, Entry]:
        """Read the parameters of the run that made version 1."""
        return mlflow_ledger.read_ledger(self.client, model_name(name))

    def append(self, name: str, number: int, entry: Entry) -> bool:
        """Claim a number of the ledger, as a write-once parameter."""
        return mlflow_ledger.append_entry(self.client, name, number, entry)

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Point an alias of the registered model at a version."""
        mlflow_ledger.point_alias(self.client, name, alias, version)

    def gates(self, name: str) -> dict[str, Gate]:
        """Read the tags of the registered model."""
        return mlflow_ledger.read_gates(self.client, model_name(name))

    def set_gate(self, name: str, alias: str, gate: Gate | None) -> None:
        """Write a tag of the registered model."""
        mlflow_ledger.write_gate(self.client, model_name(name), alias, gate)

    def tag(self, info: VersionInfo, key: str, value: str) -> None:
        """Put a tag on the registered version."""
        with mlflow_errors(f"tagging {info.name}@{info.version}"):
            self.client.set_model_version_tag(info.name, str(info.version), key, value)

    def tagged(self, info: VersionInfo, key: str) -> str | None:
        """Read a tag of a version."""
        with mlflow_errors(f"reading the tags of {info.name}@{info.version}"):
            tags = self.client.get_model_version(info.name, str(info.version)).tags
        found = tags.get(key)
        return None if found is None else str(found)

    def no_queues(self, name: str) -> str | None:
        """Ask the store for the queues of the model's experiment."""
        return self._queues.refusal(name)

    def ask(self, info: VersionInfo, questions: Sequence[Question]) -> ReviewQueue:
        """Write a trace for each question, and queue them (see `mlflow_review_queue`)."""
        return self._queues.ask(info, questions)

    def review_queue(self, info: VersionInfo) -> ReviewQueue | None:
        """Read what reviewers answered in the MLflow UI."""
        return self._queues.read(info)

    def set_stage(self, name: str, version: int, stage: str) -> None:
        """Move a version to a stage, and leave the others where they are."""
        with mlflow_errors(f"moving {name}@{version} to the stage {stage}"):
            self.client.transition_model_version_stage(
                name, str(version), stage, archive_existing_versions=False
            )

    def inconsistencies(self, info: VersionInfo, manifest: Manifest) -> list[str]:
        """Compare parameters, tags and states with the manifest."""
        return list(mlflow_care.inconsistencies(self.client, info, manifest))

    def mend(self, info: VersionInfo, manifest: Manifest) -> None:
        """Write the tags again, and close what a crash left open."""
        mlflow_care.mend(self.client, info, manifest)

    def leftovers(self, name: str) -> list[Leftover]:
        """List runs and LoggedModels that no version names."""
        return mlflow_care.leftovers(self.client, name)

    def remove(self, name: str, leftover: Leftover) -> None:
        """Mark a run or a LoggedModel deleted."""
        mlflow_care.remove(self.client, leftover)

    def document(self, info: VersionInfo, name: str) -> bytes | None:
        """Read a document of the version's run."""
        with mlflow_errors(f"reading {name} of run {info.run_id}"):
            if name not in {item.path for item in self.client.list_artifacts(info.run_id)}:
                return None
            return mlflow_artifacts.read_run_file(self.client, info.run_id, name)

    def record_evaluation(
        self, info: VersionInfo, scorecard: Scorecard, documents: dict[str, bytes]
    ) -> str:
        """Log a measurement as a run, its metrics linked to the version's LoggedModel."""
        return mlflow_evaluations.record(
            self.client, info, self.manifest(info), scorecard, documents
        )

    def register_plain(self, name: str, folder: Path, *, source: VersionInfo, base: BaseRef) -> str:
        """Register a plain transformers model (see `mlflow_plain`)."""
        return mlflow_plain.register_plain(self.client, name, folder, source=source, base=base)

    def _read_back(self, draft: Draft, stored: mlflow_publish.Published) -> VersionInfo:
        """Verify what was stored, as any reader will."""
        with mlflow_errors("reading the version back"):
            model = self.client.get_logged_model(stored.model_id)
        info = version_info(draft.name, 0, model)
        manifest = self.manifest(info)
        if manifest.scorecard is not None:
            self.scorecard(info, manifest)
        for ref in manifest.batches:
            if ref.run_id == stored.run_id:
                self._batches.stored(ref)
        return info


def tracking_uri() -> str:
    """Return MLflow's own setting."""
    return str(mlflow.get_tracking_uri())


def few_retries() -> None:
    """Let a dead server be noticed in seconds, unless the user's environment says otherwise."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
