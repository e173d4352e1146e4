"""Base models in MLflow: logged once for each digest, or found where they are."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.models import Model

from mlflow_edit.core.digest import bytes_digest
from mlflow_edit.core.manifest import BaseRef
from mlflow_edit.errors import (
    BaseMismatchError,
    MlflowEditError,
    RegistryError,
    UnsupportedModel,
    VersionNotFound,
)
from mlflow_edit.models.base_digest import base_digest
from mlflow_edit.models.base_files import base_files, find_base
from mlflow_edit.registry import mlflow_artifacts
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.names import BASES_EXPERIMENT

CHAT = "llm/v1/chat"  # MLflow's task of models that are given messages


class MlflowBases:
    """Store and fetch base models through one tracking client."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def add(
        self, folder: Path, *, digest: str, source: str, advance: Callable[[str], None]
    ) -> BaseRef:
        """Log a model folder as a LoggedModel of the transformers flavor, unless it is there."""
        for uri in self._uris(digest):
            ref = BaseRef(digest=digest, uri=uri, source=source)
            if self._holds(ref):
                advance("the base model is registered already")
                return ref
        with mlflow_errors("registering the base model"):
            experiment = ensure_experiment(self._client, BASES_EXPERIMENT)
            advance("storing the base model in MLflow")
            model = self._client.create_logged_model(
                experiment,
                name="base",
                params={"base_digest": digest, "source": source[:250]},
                model_type="base",
            )
            with tempfile.TemporaryDirectory() as temporary:
                lay_out(folder, Path(temporary), model.model_id)
                self._client.log_model_artifacts(model.model_id, temporary)
            self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        ref = BaseRef(digest=digest, uri=f"models:/{model.model_id}", source=source)
        if not self._holds(ref):
            raise RegistryError(
                f"the base model {digest[:12]} did not arrive whole at {ref.uri}",
                hint="Is the artifact store full? Nothing was registered; run it again.",
            )
        return ref

    def _uris(self, digest: str) -> list[str]:
        """List where a base model was stored, oldest first."""
        with mlflow_errors("looking for the base model"):
            experiment = self._client.get_experiment_by_name(BASES_EXPERIMENT)
            if experiment is None:
                return []
            found = self._client.search_logged_models(
                [experiment.experiment_id], filter_string=f"params.base_digest = '{digest}'"
            )
        ready = [model for model in found if model.status == LoggedModelStatus.READY]
        ready.sort(key=lambda model: model.creation_timestamp)
        return [f"models:/{model.model_id}" for model in ready]

    def _holds(self, base: BaseRef) -> bool:
        """Tell whether what is stored is the base model, whole."""
        try:
            folders = find_base(self._stored(base))
            whole = base_digest(folders.weights, folders.tokenizer) == base.digest
        except MlflowEditError:
            whole = False
        if not whole:
            self.forget(base)
        return whole

    def find(self, uri: str) -> tuple[str, Path]:
        """Pin a model that somebody logged: `models:/NAME/1`, `models:/NAME@alias`, `runs:/…`."""
        with mlflow_errors(f"looking for the base model {uri}"):
            pinned = uri
            if uri.startswith("models:/") and not uri.startswith("models:/m-"):
                pinned = _pinned(self._client, uri)
            cache_as = f"bases/{bytes_digest(pinned.encode())}"
            if not pinned.startswith("models:/m-"):  # what a run holds can be written again
                mlflow_artifacts.forget(cache_as)
            return pinned, self._folder(pinned, cache_as)

    def folder(self, base: BaseRef) -> Path:
        """Return a local copy of a base model.

        Where its files were deleted, another stored copy of the same digest serves.

        Raises:
            BaseMismatchError: no copy has weights and a tokenizer any more.
        """
        folder = self._whole_folder(base, [base.uri]) or self._whole_folder(
            base, self._uris(base.digest)
        )
        if folder is not None:
            return folder
        raise BaseMismatchError(
            f"the base model {base.digest[:12]} at {base.uri} has lost files",
            hint="Its artifacts were deleted, or the store is damaged. "
            "mledit init NAME --base … with the same model stores it again.",
        )

    def stored(self, digest: str) -> Path | None:
        """Return a local copy of what was stored under a digest, None where nothing was."""
        uris = self._uris(digest)
        return self._whole_folder(BaseRef(digest=digest, uri=uris[0]), uris) if uris else None

    def _whole_folder(self, base: BaseRef, uris: Sequence[str]) -> Path | None:
        for uri in uris:
            with suppress(UnsupportedModel, VersionNotFound):
                folder = self._stored(base.model_copy(update={"uri": uri}))
                if any(find_base(folder).weights.glob("*.safetensors")):
                    return folder
            self.forget(base)
        return None

    def _stored(self, base: BaseRef) -> Path:
        return self._folder(base.uri, f"bases/{base.digest}")

    def forget(self, base: BaseRef) -> None:
        """Drop the cached copy of a base model, if there is one."""
        mlflow_artifacts.forget(f"bases/{base.digest}")

    def _folder(self, uri: str, cache_as: str) -> Path:
        if uri.startswith("models:/m-"):
            model_id = uri.removeprefix("models:/")
            return mlflow_artifacts.model_folder(self._client, model_id, cache_as=cache_as)
        return mlflow_artifacts.uri_folder(uri, cache_as=cache_as)


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, made if need be (by whoever comes first)."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except mlflow.exceptions.MlflowException:
            found = client.get_experiment_by_name(name)  # somebody else was quicker
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def lay_out(folder: Path, target: Path, model_id: str, *, requirements: Sequence[str] = ()) -> None:
    """Lay a Hugging Face folder out as an MLflow transformers model, by hard links where it can.

    MLflow's own `save_model` refuses a folder where transformers is newer than it knows.

    Args:
        folder: the model.
        target: where to.
        model_id: of the LoggedModel.
        requirements: what to install to serve it by `mlflow.pyfunc`; none: it is not to be served.
    """
    import json

    import mlflow.pyfunc
    import transformers

    folders = find_base(folder)
    weights, tokenizer = base_files(folder)
    for files, part in ((weights, "model"), (tokenizer, "components/tokenizer")):
        (target / part).mkdir(parents=True)
        for file in files:
            _link(file, target / part / file.name)
    config = json.loads((folders.weights / "config.json").read_text())
    architecture = (config.get("architectures") or ["PreTrainedModel"])[0]
    task = {"ForSequenceClassification": "text-classification", "LMHeadModel": "text-generation"}
    model = Model(artifact_path="base", model_id=model_id)
    model.add_flavor(
        "transformers",
        transformers_version=transformers.__version__,
        code=None,
        task=next((t for end, t in task.items() if architecture.endswith(end)), "text-generation"),
        instance_type="TextGenerationPipeline",
        framework="pt",
        torch_dtype=f"torch.{config.get('dtype', 'float32')}",
        pipeline_model_type=architecture,
        tokenizer_type=_tokenizer_class(folders.tokenizer),
        components=["tokenizer"],
        model_binary="model",
        source_model_name=str(config.get("_name_or_path", "")) or "base",
    )
    if requirements:
        (target / "requirements.txt").write_text("".join(f"{one}\n" for one in requirements))
        mlflow.pyfunc.add_to_model(model, loader_module="mlflow.transformers")
        if architecture.endswith("ForCausalLM") and _has_chat_template(folders.tokenizer):
            _answer_messages(model)
    model.save(str(target / "MLmodel"))


def _answer_messages(model: Model) -> None:
    """Let `mlflow.pyfunc` put prompts through the chat template, as edits were learned.

    Else it would continue the bare text of a question.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

    model.flavors["transformers"]["inference_task"] = CHAT
    model.metadata = {"task": CHAT}
    model.signature = ModelSignature(CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA)


def _has_chat_template(folder: Path) -> bool:
    import json

    path = folder / "tokenizer_config.json"
    fields = json.loads(path.read_text()) if path.is_file() else {}
    return bool(fields.get("chat_template")) or any(folder.glob("chat_template.*"))


def _tokenizer_class(folder: Path) -> str:
    import json

    path = folder / "tokenizer_config.json"
    fields = json.loads(path.read_text()) if path.is_file() else {}
    return str(fields.get("tokenizer_class", "PreTrainedTokenizerFast"))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _pinned(client: MlflowClient, uri: str) -> str:
    """Replace `models:/NAME/1` or `models:/NAME@alias` by what it names now, for good."""
    rest = uri.removeprefix("models:/")
    name, at, alias = rest.partition("@")
    if at:
        version = client.get_model_version_by_alias(name, alias)
    else:
        name, _, number = rest.partition("/")
        if not number.isdigit():
            raise VersionNotFound(
                f"{uri} names no version", hint="Write models:/NAME/1 or models:/NAME@alias."
            )
        version = client.get_model_version(name, number)
    model_id = getattr(version, "model_id", None)
    source = str(version.source)
    if not model_id and source.startswith("models:/m-"):
        model_id = source.removeprefix("models:/")
    return f"models:/{model_id}" if model_id else f"models:/{name}/{version.version}"
