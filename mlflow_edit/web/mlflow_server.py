"""What the pages need of MLflow's own server, which is not public: this module alone knows it.

Every name is looked up when it is needed; where this MLflow has it no more, the error says so.
"""

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlparse

import mlflow
from flask import Flask, g, request
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import append_to_uri_path

from mlflow_edit.errors import RegistryError
from mlflow_edit.registry.registry import Registry
from mlflow_edit.web.access import Access, Permission

ARTIFACTS = "mlflow-artifacts"


def _needed(module: str, name: str) -> Any:
    """Return something internal of MLflow.

    Raises:
        RegistryError: this MLflow does not have it.
    """
    try:
        return getattr(import_module(f"mlflow.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise RegistryError(
            f"the pages of mledit need mlflow.{module}.{name}, "
            f"which MLflow {mlflow.__version__} does not have",
            hint="Use a release of mlflow-edit and of MLflow that fit; for --app-name "
            "mledit-basic-auth: pip install 'mlflow[auth]>=3.16'.",
        ) from error


def flask_app() -> Flask:
    """Return the Flask application of MLflow's server."""
    app: Flask = _needed("server", "app")
    return app


def static_prefix() -> str:
    """Return what `--static-prefix` says, without a slash at its end."""
    return str(_needed("server.handlers", "_add_static_prefix")("/")).rstrip("/")


def served(app: Flask) -> Any:
    """Return the application as the server wants it: ASGI under uvicorn, else WSGI."""
    if os.environ.get("_MLFLOW_SGI_NAME") == "uvicorn":
        return _needed("server.fastapi_app", "create_fastapi_app")(app)
    return app


@cache
def server_registry() -> Registry:
    """Open the registry on the stores that this server itself serves, once for each process.

    MLflow's own handlers name their stores to the whole process, so that the ordinary client finds
    them; a request to the server's address would lack the user's password.
    """
    from mlflow_edit.registry.mlflow_registry import MlflowRegistry

    _needed("server.handlers", "_get_tracking_store")()
    _needed("server.handlers", "_get_model_registry_store")()
    _artifacts_in_process()
    loud = logging.getLogger("mlflow").level
    try:
        return MlflowRegistry()
    finally:
        logging.getLogger("mlflow").setLevel(loud)  # this log is the server's, not ours


def _artifacts_in_process() -> None:
    """Read and write `mlflow-artifacts:` locations where the server keeps them.

    The stock repository asks a server for them over HTTP; here we are that server.
    """
    repositories = _needed("store.artifact.artifact_repository_registry",
                           "_artifact_repository_registry")  # fmt: skip
    repositories.register(ARTIFACTS, _artifact_repository)


def _artifact_repository(uri: str, *_: object, **__: object) -> Any:
    destination = os.environ.get(_needed("server.constants", "ARTIFACTS_DESTINATION_ENV_VAR"))
    if not destination:
        raise MlflowException("this server does not serve artifacts (--artifacts-destination)")
    path = urlparse(uri).path.lstrip("/")
    if ".." in unquote(path).split("/") or "\\" in unquote(path):
        raise MlflowException(f"{uri!r} is no place for artifacts")
    scoped = _needed("server.handlers", "_get_workspace_scoped_repo_path_if_enabled")(path)
    repository = _needed("store.artifact.artifact_repository_registry", "get_artifact_repository")
    return repository(append_to_uri_path(destination, scoped or ""))


class BasicAuthAccess(Access):
    """The users and permissions of MLflow's basic-auth application.

    Raises:
        RegistryError: this MLflow lacks what is asked of it.
    """

    def __init__(self) -> None:
        self._is_admin = _needed("server.auth", "sender_is_admin")
        self._permission = _needed("server.auth", "_get_registered_model_permission")
        self._readable = _needed("server.auth", "_rm_or_prompt_version_read_predicate")
        self._validators = _needed("server.auth", "BEFORE_REQUEST_VALIDATORS")
        self._compose = _needed("server.auth", "create_app")

    def user(self) -> str | None:
        """Return who signed in with this request, by MLflow's own check."""
        return getattr(g, "mlflow_authenticated_user", None)

    def may(self, name: str, permission: Permission) -> bool:
        """Ask MLflow; whoever may not read a model may not update it either."""
        if self._admin():
            return True
        readable = self._readable_models()(SimpleNamespace(name=name, tags=()))
        if permission is not Permission.UPDATE or not readable:
            return bool(readable)
        return bool(self._permission(name).can_update)

    def _admin(self) -> bool:
        if "mledit_admin" not in g:
            g.mledit_admin = bool(self._is_admin())
        return bool(g.mledit_admin)

    def _readable_models(self) -> Callable[[Any], bool]:
        if "mledit_readable" not in g:
            g.mledit_readable = self._readable(self.user())
        readable: Callable[[Any], bool] = g.mledit_readable
        return readable

    def compose(self, app: Flask, needs: Mapping[tuple[str, str], Permission]) -> Any:
        """Put MLflow's check of passwords before an application, with a validator for each route.

        Args:
            app: with our pages in it.
            needs: what each of our routes needs, by path and method. MLflow compares paths whole,
                and refuses what has no validator.
        """
        for key, permission in needs.items():
            self._validators[key] = self._validator(permission)
        return self._compose(app)

    def _validator(self, permission: Permission) -> Callable[[], bool]:
        def allowed() -> bool:
            if permission is Permission.SIGNED_IN:
                return True
            names = request.args.getlist("name")
            return len(names) == 1 and self.may(names[0], permission)

        return allowed
