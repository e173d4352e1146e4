"""What MLflow shows of versions against what their manifests say, and what crashes left behind."""

import time
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Run, ViewType

from mlflow_edit.core.manifest import Manifest
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.mlflow_publish import facts, version_tags
from mlflow_edit.registry.mlflow_versions import (
    OPENED,
    OUR_VERB,
    PAGE,
    logged_models,
    model_versions,
)
from mlflow_edit.registry.names import experiment_name
from mlflow_edit.registry.registry import Leftover, VersionInfo


def inconsistencies(client: MlflowClient, info: VersionInfo, manifest: Manifest) -> Iterator[str]:
    """Say where parameters, tags and states differ from the manifest."""
    with mlflow_errors(f"reading {info.name}@{info.version}"):
        model = client.get_logged_model(info.model_id)
        version = client.get_model_version(info.name, str(info.version))
        run = client.get_run(info.run_id)
    for key, value in facts(manifest).items():
        if model.params.get(key) != value:
            yield f"parameter {key} is {model.params.get(key)!r}, not {value!r}"
    for key, value in version_tags(manifest).items():
        if version.tags.get(key) != value:
            yield f"tag {key} is {version.tags.get(key)!r}, not {value!r}"
    if model.status != LoggedModelStatus.READY:
        yield f"its LoggedModel is {model.status}"
    if run.info.status != "FINISHED":
        yield f"its run is {run.info.status}"
    if run.info.lifecycle_stage != "active":
        yield f"its run is {run.info.lifecycle_stage}"


def mend(client: MlflowClient, info: VersionInfo, manifest: Manifest) -> None:
    """Write the tags again and close what is open; parameters cannot be changed."""
    with mlflow_errors(f"mending {info.name}@{info.version}"):
        for key, value in version_tags(manifest).items():
            client.set_model_version_tag(info.name, str(info.version), key, value)
        if client.get_logged_model(info.model_id).status != LoggedModelStatus.READY:
            client.finalize_logged_model(info.model_id, LoggedModelStatus.READY)
        run = client.get_run(info.run_id).info
        if run.lifecycle_stage != "active":
            client.restore_run(info.run_id)
        if run.status != "FINISHED":
            client.set_terminated(info.run_id, "FINISHED")


def leftovers(client: MlflowClient, name: str) -> list[Leftover]:
    """List runs and LoggedModels of ours in the model's experiment that no version names."""
    with mlflow_errors(f"looking for what no version of {name} names"):
        experiment = client.get_experiment_by_name(experiment_name(name))
        if experiment is None:
            return []
        runs = _runs(client, experiment.experiment_id)
        models = logged_models(client, experiment.experiment_id)
        versions = model_versions(client, name)  # last, so that all that is registered is named
    named = {str(version.source).removeprefix("models:/") for version in versions}
    used = {str(version.run_id) for version in versions}
    now = time.time()
    found = [
        Leftover("model", m.model_id, str(m.status), now - m.creation_timestamp / 1000)
        for m in models.values()
        if m.model_id not in named
    ]
    for run in runs:
        verb = run.data.tags.get(OUR_VERB)
        finished_evaluation = verb == "eval" and run.info.status == "FINISHED"
        if run.info.run_id not in used and not finished_evaluation and verb:
            found.append(Leftover("run", run.info.run_id, run.info.status, now - _opened(run)))
    return found


def _opened(run: Run) -> float:
    """Return when a run was made, in seconds: its start may be long before."""
    try:
        return float(run.data.tags[OPENED])
    except (KeyError, ValueError):
        return float(run.info.start_time) / 1000


def remove(client: MlflowClient, leftover: Leftover) -> None:
    """Mark a leftover deleted; `mlflow gc` takes deleted runs off the disk."""
    with mlflow_errors(f"deleting {leftover.kind} {leftover.id}"):
        if leftover.kind == "model":
            client.delete_logged_model(leftover.id)
        else:
            client.delete_run(leftover.id)


def _runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=PAGE, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found
