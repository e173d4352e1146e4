"""Start MLflow's own server, with our pages in it, on the store in use."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.provenance import default_author
from mlflow_edit.registry.mlflow_registry import tracking_uri
from mlflow_edit.registry.names import shown_uri

PAGES = "/mledit"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ARTIFACTS = "mlruns"  # where a client that opens a database itself puts artifacts


class Served(FrozenModel):
    """A server about to be started; whoever reaches it acts as `acts_as`."""

    address: str
    store: str
    acts_as: str
    is_private: bool


@contextmanager
def ui(
    *, host: str = "127.0.0.1", port: int = 5000
) -> "Iterator[tuple[Served, subprocess.Popen[str]]]":
    """Start the server on the store in use, and end it at the end of the block.

    It reads and writes artifacts where a client of that store does. There are no users: for a
    server of several, `mlflow server --app-name mledit-basic-auth`. What it has to say, errors
    only, is to be read from the process's `stdout`.

    Raises:
        InvalidInputError: the store is a server already.
        VersionNotFound: there is no store.
        RegistryError: the store cannot be used.
    """
    uri = tracking_uri()
    if urlsplit(uri).scheme in ("http", "https", "databricks"):
        raise InvalidInputError(
            f"{shown_uri(uri)} is a server already",
            hint="Its pages are at /mledit where it was started with --app-name mledit.",
        )
    open_registry()
    author = default_author()
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "mledit"]
    command += ["--host", host, "--port", str(port), "--workers", "1", "--no-serve-artifacts"]
    command += ["--backend-store-uri", uri, "--registry-store-uri", uri]
    command += ["--default-artifact-root", str(Path(ARTIFACTS).resolve())]
    server = subprocess.Popen(
        command, env=_environment(author), text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    shown = f"[{host}]" if ":" in host else host
    try:
        yield (
            Served(
                address=f"http://{shown}:{port}{PAGES}",
                store=shown_uri(uri),
                acts_as=author,
                is_private=host in LOOPBACK,
            ),
            server,
        )
    finally:
        server.terminate()
        server.communicate()


def _environment(author: str) -> dict[str, str]:
    """Return the server's environment: who acts, a key for its forms, and to say errors only."""
    without = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_GUNICORN_OPTS")
    kept = {name: value for name, value in os.environ.items() if name not in without}
    defaults = {
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_UVICORN_OPTS": "--log-level error",
        "PYTHONWARNINGS": "ignore",
    }
    return {**defaults, **kept, "MLEDIT_AUTHOR": author}
