"""A real MLflow tracking server, with artifacts behind it, on a free port of this machine."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

START_LIMIT = 90  # seconds; a busy machine takes ten


@dataclass
class Server:
    """A running `mlflow server`; `artifacts` is the folder that clients only reach through it."""

    uri: str
    artifacts: Path
    database: Path
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End the server and its workers at once, as a crash would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def file(self, name: str, *, under: str = "") -> Path:
        """Find the one artifact that lies at `…under…/name`."""
        found = [path for path in self.artifacts.rglob(name) if under in str(path)]
        assert len(found) == 1, f"{len(found)} files {name} under {under}"
        return found[0]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(folder: Path, *, database: Path | None = None) -> Server:
    """Start a server over a folder and wait until it answers.

    Args:
        folder: where its database, artifacts and log go.
        database: an initialised sqlite database to begin with, which saves seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine, artifacts, port = folder / "server.db", folder / "artifacts", free_port()
    if database is not None:
        mine.write_bytes(database.read_bytes())
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{mine}"]
    command += ["--artifacts-destination", str(artifacts)]
    environment = {name: v for name, v in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}", artifacts, mine, process)
    atexit.register(server.kill)
    _wait_for(server, folder / "server.log")
    return server


def _wait_for(server: Server, log: Path) -> None:
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit:
        if server.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{server.uri}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    server.kill()
    raise RuntimeError(f"no server: {log.read_text()[-2000:]}")


@cache
def shared_server() -> Server:
    """Start the one server that tests share; each uses model names of its own."""
    from registry_fixtures import scratch, template_database

    return start_server(scratch() / "server", database=template_database())


@pytest.fixture(scope="session")
def server() -> Server:
    """The server that tests share, and must leave running."""
    return shared_server()
