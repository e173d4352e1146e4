"""Register the root version of an edited model: a base model and no batches."""

from datetime import UTC, datetime
from pathlib import Path

from mlflow_edit.core.manifest import BaseRef, Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import BaseMismatchError, InvalidInputError, NotFoundError, VersionNotFound
from mlflow_edit.operations.authorship import checked_author, checked_message
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.version_view import VersionDetail, detail
from mlflow_edit.registry.names import model_name
from mlflow_edit.registry.registry import Draft, Registry, VersionInfo


def init(
    name: str,
    *,
    base: str,
    message: str = "",
    author: str | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> VersionDetail:
    """Register the root version of `name` over a base model.

    Args:
        name: the registered model to make.
        base: `models:/…`, `runs:/…`, a folder, a hub id (`org/model` or `org/model@revision`) or
            `smollm2`.
        message: why.
        author: who; None takes `MLEDIT_AUTHOR`, git's user or the account.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Returns:
        The root version; where the model is there already over the same base, its first version.

    Raises:
        BaseMismatchError: the model is there already, over another base.
        UnsupportedModel, NotFoundError, RegistryError: the base cannot be had, or not be stored.
    """
    model_name(name)
    author, message = checked_author(author), checked_message(message)
    registry, reporter = open_registry(registry, create=True), reporter or Silent()
    existing = _versions(registry, name)
    reporter.stage(f"finding the base model {base}")
    ref = pin_base(base, registry, reporter)
    if existing:
        return _already(registry, existing[0], ref)
    manifest = Manifest(
        base=ref,
        author=author,
        created_at=utc_now(),
        message=message or f"base model {base}",
        scorecard=Scorecard().digest,
    )
    registry.create_model(name)
    draft = Draft(
        name=name,
        verb="init",
        manifest=lambda run_id: manifest,
        base=ref,
        scorecard=Scorecard(),
        params={"base": ref.uri, "base_digest": ref.digest},
        description=lambda info: f"Base model `{ref.source}` (`{ref.digest[:12]}`), no edits.",
    )
    return detail(registry.publish(draft), manifest, Scorecard())


def utc_now() -> str:
    """Return the time as manifests write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _versions(registry: Registry, name: str) -> list[VersionInfo]:
    try:
        return registry.versions(name)
    except VersionNotFound:
        return []


def _already(registry: Registry, root: VersionInfo, ref: BaseRef) -> VersionDetail:
    manifest = registry.manifest(root)
    if manifest.base.digest != ref.digest:
        raise BaseMismatchError(
            f"{root.name} exists over the base model {manifest.base.digest[:12]} "
            f"({manifest.base.source}), not over {ref.digest[:12]}",
            hint="Choose another name: one model of edits has one base model.",
        )
    return detail(
        root,
        manifest,
        registry.scorecard(root, manifest),
        warnings=(f"{root.name} exists already over this base model",),
    )


def pin_base(base: str, registry: Registry, reporter: Reporter) -> BaseRef:
    """Find a base model wherever it is, name it by digest, and store it unless MLflow has it.

    Raises:
        NotFoundError, UnsupportedModel, RegistryError: it cannot be had, or not be stored.
    """
    from mlflow_edit.models.base_digest import base_digest
    from mlflow_edit.models.base_files import find_base

    if base.startswith(("models:/", "runs:/", "memory:/")):
        uri, folder = registry.find_base(base)
        folders = find_base(folder)
        digest = base_digest(folders.weights, folders.tokenizer)
        return BaseRef(digest=digest, uri=uri, source=base)
    folder = _fetch(base, reporter)
    folders = find_base(folder)
    reporter.stage("computing the digest of the base model")
    digest = base_digest(folders.weights, folders.tokenizer)
    source = base if not Path(base).is_dir() else Path(base).resolve().name
    return registry.add_base(folder, digest=digest, source=source, advance=reporter.stage)


def base_folder(base: str, registry: Registry | None, reporter: Reporter) -> Path:
    """Return the folder of a base model, wherever it is; a registry is opened where it is in one.

    Raises:
        NotFoundError, InvalidInputError, RegistryError: it cannot be had.
    """
    if base.startswith(("models:/", "runs:/", "memory:/")):
        return open_registry(registry).find_base(base)[1]
    return _fetch(base, reporter)


def _fetch(base: str, reporter: Reporter) -> Path:
    if base == "smollm2":
        from mlflow_edit.models.cache import cache_folder
        from mlflow_edit.models.smollm2 import smollm2_folder

        return smollm2_folder(cache_folder(), reporter.stage)
    if Path(base).is_dir():
        return Path(base)
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        raise NotFoundError(
            f"no folder {base!r}",
            hint="A base is a folder, a hub id (org/model), models:/…, runs:/… or smollm2.",
        )
    return _from_hub(base)


def _from_hub(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    repository, _, revision = hub_id.partition("@")
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
        )
    except HFValidationError as error:
        raise InvalidInputError(f"{hub_id!r} is no hub id: {error}") from error
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"{hub_id} is not a folder, and cannot be downloaded from the Hugging Face hub",
            hint="Check the id and the network (HF_HUB_OFFLINE is honoured).",
        ) from error
