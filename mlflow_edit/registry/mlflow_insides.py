"""What enforcement needs of MLflow's own insides: all of it is here, and looked for at the start.

MLflow promises nothing of this. A server on a release that lacks a part refuses to start, rather
than let aliases move unchecked.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_edit.registry.mlflow_artifacts import read_model_file

_HANDLERS = "mlflow.server.handlers"
_STORES = "mlflow.store.model_registry.sqlalchemy_store", "SqlAlchemyStore"
_WORKSPACE_STORES = (
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "WorkspaceAwareSqlAlchemyStore",
)

_ACTING_FOR: ContextVar[str | None] = ContextVar("the user of a job", default=None)


def sql_store() -> type:
    """Return MLflow's SQL registry store, that for workspaces where they are enabled."""
    workspaces = os.environ.get("MLFLOW_ENABLE_WORKSPACES", "").lower() in ("true", "1")
    found: type = _part(*(_WORKSPACE_STORES if workspaces else _STORES))
    return found


def read_replica() -> str | None:
    """Return the URI of a read replica, where the server was given one."""
    name = _part("mlflow.server.constants", "READ_REPLICA_BACKEND_STORE_URI_ENV_VAR")
    return os.environ.get(name)


def tracking() -> Any:
    """Return what runs and LoggedModels are read from: the server's own store, or a client."""
    if not _in_server():
        return MlflowClient()
    return _part(_HANDLERS, "_get_tracking_store")()


def read_file(model_id: str, name: str) -> bytes:
    """Read one small file of a LoggedModel, also where only the server reaches the store.

    Raises:
        IntegrityError: it is not there.
    """
    store = tracking()
    location = str(store.get_logged_model(model_id).artifact_location)
    if not _in_server() or not _part(_HANDLERS, "_is_servable_proxied_run_artifact_root")(location):
        return read_model_file(store, model_id, name)
    path = _part(_HANDLERS, "_get_proxied_run_artifact_destination_path")(location, name)
    path = _part(_HANDLERS, "_get_workspace_scoped_repo_path_if_enabled")(path)
    repository = _part(_HANDLERS, "_get_artifact_repo_mlflow_artifacts")()
    with tempfile.TemporaryDirectory() as folder:
        return Path(repository.download_artifacts(path, folder)).read_bytes()


def user() -> str | None:
    """Return who sent the request, or asked for the job, on a server with MLflow's own users."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return _ACTING_FOR.get()
    name = getattr(flask.g, "mlflow_authenticated_user", None)
    return str(name) if name else None


@contextmanager
def acting_for(who: str | None) -> Iterator[None]:
    """Let what is done after a request was answered, in this thread, be done as its user."""
    token = _ACTING_FOR.set(who)
    try:
        yield
    finally:
        _ACTING_FOR.reset(token)


def may_manage(name: str) -> bool:
    """Tell whether whoever asks may manage a model.

    Whoever opened the database without a server may. On a server without users nobody is known to,
    and no job does.
    """
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return user() is None
    if user() is None:
        return False
    auth = "mlflow.server.auth"
    if _part(auth, "sender_is_admin")():
        return True
    return bool(_part(auth, "_get_registered_model_permission")(name).can_manage)


def check_release() -> None:
    """Look for every part that enforcement needs.

    Raises:
        MlflowException: this release of MLflow has not got one.
    """
    for names in (_STORES, _WORKSPACE_STORES):
        _part(*names)
    if not _in_server():
        return
    for name in (
        "_get_tracking_store",
        "_is_servable_proxied_run_artifact_root",
        "_get_proxied_run_artifact_destination_path",
        "_get_workspace_scoped_repo_path_if_enabled",
        "_get_artifact_repo_mlflow_artifacts",
    ):
        _part(_HANDLERS, name)


def _in_server() -> bool:
    if "mlflow.server" not in sys.modules:
        return False
    return bool(os.environ.get(_part("mlflow.server", "BACKEND_STORE_URI_ENV_VAR")))


def _part(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise MlflowException(
            f"this release of MLflow has no {module}.{name}, which mledit needs to enforce gates; "
            "use a release that is known to work (see the documentation of mlflow-edit)"
        ) from error
