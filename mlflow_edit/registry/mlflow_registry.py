"""Versions in the MLflow model registry, through `MlflowClient` only."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric
from mlflow.exceptions import MlflowException

from mlflow_edit.core.manifest import BaseRef, BatchRef, Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError, RegistryError, VersionNotFound
from mlflow_edit.registry import mlflow_artifacts, mlflow_publish
from mlflow_edit.registry.mlflow_bases import MlflowBases
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.names import (
    MANIFEST,
    SCORECARD,
    batch_path,
    experiment_name,
    model_name,
)
from mlflow_edit.registry.registry import Draft, Registry, VersionInfo
from mlflow_edit.registry.stored_batch import BATCH_FILES, StoredBatch

PAGE = 1000


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
        if tracking_uri is not None:
            mlflow.set_tracking_uri(tracking_uri)
        self.tracking_uri: str = mlflow.get_tracking_uri()
        if self.tracking_uri.startswith("file:") or "://" not in self.tracking_uri:
            raise RegistryError(
                f"the tracking store {self.tracking_uri} is a folder of files",
                hint="Use a database or a server: MLFLOW_TRACKING_URI=sqlite:///mlflow.db",
            )
        with mlflow_errors(f"opening {self.tracking_uri}"):
            self.client = MlflowClient()
        self._bases = MlflowBases(self.client)

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

    def create_model(self, name: str) -> None:
        """Create the registered model, or find it there."""
        with mlflow_errors(f"creating the model {name}"):
            try:
                self.client.create_registered_model(model_name(name), tags={"mledit.model": "1"})
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def publish(self, draft: Draft) -> VersionInfo:
        """Store, read back, then register (see `Registry.publish`)."""
        with mlflow_publish.open_run(self.client, draft) as run_id:
            stored = mlflow_publish.store(self.client, draft, run_id)
            self._read_back(stored)
            info = self._info_of(draft, stored)
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
            logged = self._logged_models(experiment.experiment_id)
            infos = []
            for found in self._model_versions(name):
                model = logged.get(str(found.source).removeprefix("models:/"))
                if model is not None:
                    info = _info(name, int(found.version), model)
                    known_as = tuple(sorted(aliases.get(str(found.version), [])))
                    infos.append(replace(info, aliases=known_as))
        return sorted(infos, key=lambda info: info.version)

    def manifest(self, info: VersionInfo) -> Manifest:
        """Read the manifest, against the digest among the LoggedModel's write-once parameters."""
        data = mlflow_artifacts.read_model_file(self.client, info.model_id, MANIFEST)
        return Manifest.from_bytes(data, digest=info.digest)

    def scorecard(self, info: VersionInfo, manifest: Manifest) -> Scorecard:
        """Read the scorecard, against the digest in the manifest."""
        data = mlflow_artifacts.read_model_file(self.client, info.model_id, SCORECARD)
        return Scorecard.from_bytes(data, digest=manifest.scorecard)

    def batch(self, ref: BatchRef) -> StoredBatch:
        """Read a batch from the run that made it; a cached copy that is damaged is dropped."""
        cache_as = f"batches/{ref.digest}"
        files = mlflow_artifacts.read_run_files(
            self.client, ref.run_id, batch_path(ref.digest), BATCH_FILES, cache_as=cache_as
        )
        try:
            return StoredBatch.from_files(files, digest=ref.digest)
        except IntegrityError:
            mlflow_artifacts.forget(cache_as)
            raise

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
        draft = Draft(
            name=info.name,
            verb="eval",
            manifest=lambda run_id: self.manifest(info),
            base=self.manifest(info).base,
            scorecard=scorecard,
            tags={"mledit.evaluates": info.digest},
        )
        with mlflow_publish.open_run(self.client, draft) as run_id:
            with mlflow_errors("storing the evaluation"):
                self.client.log_batch(
                    run_id,
                    metrics=mlflow_publish.scorecard_metrics(
                        scorecard, model_id=info.model_id, run_id=run_id, dataset=None
                    ),
                )
                for name, data in {**documents, SCORECARD: scorecard.to_bytes()}.items():
                    self.client.log_text(run_id, data.decode(), name)
        return run_id

    def _read_back(self, stored: mlflow_publish.Published) -> None:
        """Verify what was stored, as any reader will."""
        info = _info("", 0, self.client.get_logged_model(stored.model_id))
        manifest = self.manifest(info)
        if manifest.scorecard is not None:
            self.scorecard(info, manifest)
        for ref in manifest.batches:
            if ref.run_id == stored.run_id:
                self.batch(ref)

    def _info_of(self, draft: Draft, stored: mlflow_publish.Published) -> VersionInfo:
        with mlflow_errors("reading the version back"):
            return _info(draft.name, 0, self.client.get_logged_model(stored.model_id))

    def _logged_models(self, experiment_id: str) -> dict[str, LoggedModel]:
        models: dict[str, LoggedModel] = {}
        token = None
        while True:
            page = self.client.search_logged_models(
                [experiment_id], max_results=PAGE, page_token=token
            )
            models.update({model.model_id: model for model in page})
            token = page.token
            if not token:
                return models

    def _model_versions(self, name: str) -> list[mlflow.entities.model_registry.ModelVersion]:
        found: list[mlflow.entities.model_registry.ModelVersion] = []
        token = None
        quoted = name.replace("'", "")
        while True:
            page = self.client.search_model_versions(
                f"name = '{quoted}'", max_results=PAGE, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found


def _info(name: str, number: int, model: LoggedModel) -> VersionInfo:
    params = {key.removeprefix("mledit."): value for key, value in model.params.items()}
    if "digest" not in params:
        raise IntegrityError(f"model {model.model_id} is not a version of an edited model")
    metrics: dict[str, Metric] = {}
    for metric in model.metrics or []:
        if metric.run_id == model.source_run_id:  # as it was registered; later ones are evaluations
            metrics[metric.key] = metric
    parents = sorted((key, value) for key, value in params.items() if key.startswith("parent_"))
    return VersionInfo(
        name=name,
        version=number,
        digest=params["digest"],
        content_digest=params["content_digest"],
        parents=tuple(value for _, value in parents),
        author=params.get("author", ""),
        created_at=params["created_at"],
        message=params.get("message", ""),
        run_id=str(model.source_run_id),
        model_id=model.model_id,
        n_edits=int(params["n_edits"]),
        n_batches=int(params["n_batches"]),
        metrics={key: metric.value for key, metric in metrics.items() if not key.startswith("n_")},
    )


def few_retries() -> None:
    """Let a dead server be noticed in seconds, unless the user's environment says otherwise."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
