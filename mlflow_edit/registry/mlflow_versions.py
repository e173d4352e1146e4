"""List what MLflow knows of versions, page by page, and read it as `VersionInfo`."""

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion

from mlflow_edit.core.results import Provenance
from mlflow_edit.errors import IntegrityError
from mlflow_edit.registry.registry import VersionInfo

PAGE = 1000
OUR_VERB = "mledit.verb"  # the tag that tells our runs
OPENED = "mledit.opened"  # the tag that tells when a run was made, in seconds


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
        n_contextual=int(params.get("n_contextual", 0)),
        metrics=metrics,
        experiment_id=str(model.experiment_id),
    )


def provenance_tags(origin: Provenance) -> dict[str, str]:
    """Write where edits came from as tags of a run. See `provenance_of_tags`."""
    dirty = None if origin.dirty is None else str(origin.dirty).lower()
    found = {
        "mlflow.source.name": origin.path,
        "mlflow.source.git.commit": origin.commit,
        "mledit.edits.author": origin.author,
        "mledit.edits.summary": origin.summary,
        "mledit.edits.dirty": dirty,
    }
    return {key: value[:500] for key, value in found.items() if value}


def provenance_of_tags(tags: dict[str, str]) -> Provenance | None:
    """Read where edits came from, or None where the run does not say."""
    dirty = {"true": True, "false": False}.get(tags.get("mledit.edits.dirty", ""))
    found = Provenance(
        path=tags.get("mlflow.source.name"),
        commit=tags.get("mlflow.source.git.commit"),
        author=tags.get("mledit.edits.author"),
        summary=tags.get("mledit.edits.summary"),
        dirty=dirty,
    )
    return found if found.path or found.commit else None
