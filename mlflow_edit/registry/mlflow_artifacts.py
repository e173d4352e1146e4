"""Bring artifacts from MLflow: straight from a local store, or through a cache named by digest."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow.artifacts
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

from mlflow_edit.errors import IntegrityError, RegistryError, VersionNotFound
from mlflow_edit.models.cache import cache_folder
from mlflow_edit.registry.mlflow_errors import mlflow_errors


def local_path(location: str) -> Path | None:
    """Return the path of an artifact location on this machine, or None where it is remote."""
    parsed = urlparse(location)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return None if parsed.scheme else Path(location)


def model_folder(client: MlflowClient, model_id: str, *, cache_as: str) -> Path:
    """Return the files of a LoggedModel, in a local folder that must not be written to.

    Args:
        client: the tracking client.
        model_id: `m-…`.
        cache_as: where in the cache a remote model is kept, for example `bases/<digest>`.
    """
    with mlflow_errors(f"reading model {model_id}"):
        here = local_path(client.get_logged_model(model_id).artifact_location)
    if here is not None and here.is_dir():
        return here
    return _cached(f"models:/{model_id}", cache_as)


def uri_folder(uri: str, *, cache_as: str) -> Path:
    """Return the files under any MLflow artifact URI, through the cache."""
    return _cached(uri, cache_as)


def read_model_file(client: MlflowClient, model_id: str, name: str) -> bytes:
    """Read one small file of a LoggedModel.

    Raises:
        IntegrityError: it is not there.
    """
    with mlflow_errors(f"reading {name} of model {model_id}"):
        here = local_path(client.get_logged_model(model_id).artifact_location)
        if here is not None:
            return _read(here / name, f"model {model_id}")
        with tempfile.TemporaryDirectory() as folder, _missing_is_damage(f"model {model_id}"):
            models = ModelsArtifactRepository(f"models:/{model_id}")
            path = models.download_artifacts(name, dst_path=folder)
            return _read(Path(path), f"model {model_id}")


def read_run_file(client: MlflowClient, run_id: str, name: str) -> bytes:
    """Read one small document of a run, past any cache."""
    here = local_path(client.get_run(run_id).info.artifact_uri)
    if here is not None:
        return _read(here / name, f"run {run_id}")
    with tempfile.TemporaryDirectory() as folder:
        return _read(Path(client.download_artifacts(run_id, name, folder)), f"run {run_id}")


def read_run_files(
    client: MlflowClient,
    run_id: str,
    path: str,
    names: Sequence[str],
    *,
    cache_as: str | None = None,
) -> dict[str, bytes]:
    """Read some files under a path of a run, through a cache where the store is remote.

    Args:
        client: the tracking client.
        run_id: the run.
        path: a folder of its artifacts.
        names: the files in it.
        cache_as: where in the cache they are kept; None reads past it.

    Raises:
        IntegrityError: one is not there.
    """
    where = f"run {run_id}"
    kept = {name: cache_folder() / (cache_as or "") / name for name in names}
    if cache_as is not None and all(file.is_file() for file in kept.values()):
        return {name: _read(file, where) for name, file in kept.items()}
    with mlflow_errors(f"reading {path} of {where}"):
        here = local_path(client.get_run(run_id).info.artifact_uri)
    if here is not None:
        return {name: _read(here / path / name, where) for name in names}
    uris = {name: f"runs:/{run_id}/{path}/{name}" for name in names}
    if cache_as is not None:
        with _missing_is_damage(where):
            files = {name: _cached(uri, f"{cache_as}/{name}") for name, uri in uris.items()}
        return {name: _read(file, where) for name, file in files.items()}
    with tempfile.TemporaryDirectory() as folder, _missing_is_damage(where):
        with mlflow_errors(f"downloading {path} of {where}"):
            files = {name: _downloaded(uri, folder) for name, uri in uris.items()}
        return {name: _read(file, where) for name, file in files.items()}


def _downloaded(uri: str, folder: str) -> Path:
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))


def forget(cache_as: str) -> None:
    """Drop a cached folder, so that it is downloaded anew."""
    shutil.rmtree(cache_folder() / cache_as, ignore_errors=True)


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(path.name, where) from error


def _missing(what: str, where: str) -> IntegrityError:
    return IntegrityError(
        f"{what} is missing from {where}",
        hint="Its artifacts were deleted, or the store is damaged.",
    )


@contextmanager
def _missing_is_damage(where: str) -> Iterator[None]:
    """Raise IntegrityError where a store says that an artifact which must be there is not."""
    try:
        yield
    except VersionNotFound as error:
        raise _missing("an artifact", where) from error
    except (MlflowException, RegistryError) as error:
        cause = error if isinstance(error, MlflowException) else error.__cause__
        code = getattr(cause, "error_code", None)
        if code == "RESOURCE_DOES_NOT_EXIST" or "404 Client Error" in str(cause):
            raise _missing("an artifact", where) from error
        raise


def _cached(uri: str, cache_as: str) -> Path:
    """Download once, into place by one rename; a broken download leaves nothing."""
    target = cache_folder() / cache_as
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists():
            return target
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            with mlflow_errors(f"downloading {uri}"):
                got = _downloaded(uri, str(folder))
            os.replace(got, target) if got != folder else os.replace(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return target
