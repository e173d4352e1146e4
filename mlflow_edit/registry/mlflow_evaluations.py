"""Measurements of versions that are there already, as runs of their own."""

from mlflow import MlflowClient

from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.registry import mlflow_publish
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.names import SCORECARD
from mlflow_edit.registry.registry import Draft, VersionInfo


def record(
    client: MlflowClient,
    info: VersionInfo,
    manifest: Manifest,
    scorecard: Scorecard,
    documents: dict[str, bytes],
) -> str:
    """Log a measurement as a run, its metrics linked to the version's LoggedModel.

    Returns:
        The run's id.

    Raises:
        RegistryError: the store failed.
    """
    draft = Draft(
        name=info.name,
        verb="eval",
        manifest=lambda run_id: manifest,
        base=manifest.base,
        scorecard=scorecard,
        tags={"mledit.verb": "eval", "mledit.evaluates": info.digest},
    )
    with mlflow_publish.open_run(client, draft) as run_id:
        metrics = mlflow_publish.scorecard_metrics(
            scorecard, model_id=info.model_id, run_id=run_id, dataset=None
        )
        with mlflow_errors("storing the evaluation"):
            client.log_batch(run_id, metrics=metrics)
            for name, data in {**documents, SCORECARD: scorecard.to_bytes()}.items():
                client.log_text(run_id, data.decode(), name)
        mlflow_publish.finish_run(client, run_id)
    return run_id
