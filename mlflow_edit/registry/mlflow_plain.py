"""Plain transformers models in MLflow, made from versions: loading one needs nothing of ours."""

import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException

from mlflow_edit.core.manifest import BaseRef
from mlflow_edit.errors import InvalidInputError, MlflowEditError
from mlflow_edit.registry.mlflow_bases import ensure_experiment, lay_out
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.names import PLAIN_EXPERIMENT, model_name
from mlflow_edit.registry.registry import VersionInfo

REQUIREMENTS = ("mlflow", "torch", "transformers", "safetensors")


def register_plain(
    client: MlflowClient, name: str, folder: Path, *, source: VersionInfo, base: BaseRef
) -> str:
    """Log a model folder with MLflow's transformers flavor and register it; return `NAME@N`.

    The version is made by the last call, when everything is stored. It is tagged with the version
    that it was written from, and the run's inputs name that version's LoggedModel.

    Raises:
        InvalidInputError: the name is that of an edited model.
        RegistryError: MLflow refused.
    """
    _make_room(client, model_name(name))
    origin = f"{source.name}@{source.version}"
    with mlflow_errors(f"registering {name}"):
        experiment = ensure_experiment(client, PLAIN_EXPERIMENT)
        tags = {"mledit.source": origin, "mledit.digest": source.digest[:12]}
        run_id = client.create_run(experiment, run_name=f"export {origin}", tags=tags).info.run_id
        model_id, done = None, False
        try:
            facts = {"mledit.source": origin, "mledit.source_digest": source.digest}
            facts["mledit.base"] = base.digest
            model = client.create_logged_model(
                experiment, name=name, source_run_id=run_id, params=facts
            )
            model_id = str(model.model_id)
            _store(client, folder, model_id)
            ids = [one for one in (source.model_id, _id_of(base)) if one]
            client.log_inputs(run_id, models=[LoggedModelInput(one) for one in ids])
            client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
            client.finalize_logged_model(model_id, LoggedModelStatus.READY)
            client.set_terminated(run_id, "FINISHED")
            done = True
        finally:
            if not done:
                _give_up(client, run_id, model_id)
        made = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            description=f"The weights of `{origin}` (`{source.digest[:12]}`), as a plain model.",
            tags=tags,
            await_creation_for=None,
        )
    return f"{name}@{made.version}"


def _make_room(client: MlflowClient, name: str) -> None:
    with mlflow_errors(f"creating the model {name}"):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            if "mledit.model" in client.get_registered_model(name).tags:
                raise InvalidInputError(
                    f"{name} is an edited model", hint="Register plain models under another name."
                ) from None


def _store(client: MlflowClient, folder: Path, model_id: str) -> None:
    requirements = [f"{one}=={version(one).split('+')[0]}" for one in REQUIREMENTS]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        lay_out(folder, Path(temporary), model_id, requirements=requirements)
        client.log_model_artifacts(model_id, temporary)


def _give_up(client: MlflowClient, run_id: str, model_id: str | None) -> None:
    with suppress(MlflowEditError), mlflow_errors("closing the run"):
        client.set_terminated(run_id, "FAILED")
        if model_id is not None:
            client.finalize_logged_model(model_id, LoggedModelStatus.FAILED)


def _id_of(base: BaseRef) -> str | None:
    found = base.uri.removeprefix("models:/")
    return found if found.startswith("m-") else None
