"""List what MLflow knows of versions, page by page, and read it as `VersionInfo`."""

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion

from mlflow_edit.errors import IntegrityError
from mlflow_edit.registry.registry import VersionInfo

PAGE = 1000


def logged_models(client: MlflowClient, experiment_id: str) -> dict[str, LoggedModel]:
    """List the LoggedModels of an experiment, by id."""
    models: dict[str, LoggedModel] = {}
    token = None
    while True:
        page = client.search_logged_models([experiment_id], max_results=PAGE, page_token=token)
        models.update({model.model_id: model for model in page})
        token = page.token
        if not token:
            return models


def model_versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """List the registered versions of a model."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def version_info(name: str, number: int, model: LoggedModel) -> VersionInfo:
    """Read a version from the write-once parameters of its LoggedModel.

    Raises:
        IntegrityError: it has none of ours.
    """
    params = {
        key.removeprefix("mledit."): value
        for key, value in model.params.items()
        if key.startswith("mledit.")
    }
    if "digest" not in params:
        raise IntegrityError(f"model {model.model_id} is not a version of an edited model")
    metrics = {
        metric.key: metric.value
        for metric in model.metrics or []
        if metric.run_id == model.source_run_id  # as it was registered; later ones are evaluations
        and not metric.key.startswith("n_")
    }
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
        metrics=metrics,
        experiment_id=str(model.experiment_id),
    )
