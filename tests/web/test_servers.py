"""The pages in real servers: with users under uvicorn, and without them under gunicorn and `ui`."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from registry_fixtures import keep_tracking_uri, root_of, scratch, template_database
from servers import (
    ADA,
    ADMIN,
    BOB,
    Server,
    add_user,
    answers,
    end,
    free_port,
    grant,
    required,
    start_auth_server,
    start_server,
    wait_for,
)

from mlflow_edit.core.manifest import Manifest
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.web.access import Permission
from mlflow_edit.web.routes import ROUTES
from web.conftest import with_review

EVE = ("eve", "eve's password")
SESSION = "s" * 43
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers of Linux")


def publish(uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Manifest:
    """Make a model with a root version, as a client of the server."""
    keep_tracking_uri(monkeypatch, uri)
    return root_of(MlflowRegistry(uri), folder, name, documents=with_review)[1]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with users, our pages behind its passwords; eve may see nothing of `m`."""
    server = required(lambda: start_auth_server(scratch() / "pages", "mledit-basic-auth"))
    add_user(server, *EVE)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def manifest(guarded: Server, chat_folder: Path) -> Manifest:
    """The manifest of `m@1`, which ada made."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADA[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADA[1])
        made = publish(guarded.uri, chat_folder, monkeypatch, "m")
    grant(guarded, EVE[0], "m", "DENY")
    return made


def send(server: Server, path: str, method: str, who: Any, **fields: str) -> requests.Response:
    """Send a request about `m@1`, with a token as the server's pages would write it."""
    key = hmac.new(b"a key for tests", f"{SESSION}:{who and who[0]}".encode(), hashlib.sha256)
    return requests.request(
        method,
        f"{server.uri}/mledit{path}",
        params={"name": "m", "version": "1"},
        data={"csrf": key.hexdigest(), **fields} if method == "POST" else None,
        cookies={"mledit-session": SESSION},
        auth=who,
        allow_redirects=False,
        timeout=60,
    )


def test_nobody_is_answered_who_did_not_sign_in(guarded: Server, manifest: Manifest) -> None:
    for route in ROUTES:
        for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
            said = (route, method)
            assert send(guarded, route.path, method, None).status_code == 401, said
            wrong = (ADA[0], "wrong")
            assert send(guarded, route.path, method, wrong).status_code == 401, said


def test_who_is_denied_a_model_is_refused_on_every_route(
    guarded: Server, manifest: Manifest
) -> None:
    for route in ROUTES:
        for method in {route.method, "HEAD" if route.method == "GET" else "PUT"}:
            answer = send(guarded, route.path, method, EVE, digest=manifest.digest)
            refused = route.needs is not Permission.SIGNED_IN or method == "PUT"
            assert (answer.status_code == 403) is refused, (route, method)
    assert ">m</a>" not in send(guarded, "", "GET", EVE).text


def test_who_may_read_a_model_may_not_change_it(guarded: Server, manifest: Manifest) -> None:
    assert ">m</a>" in send(guarded, "", "GET", BOB).text
    for route in ROUTES:
        answer = send(guarded, route.path, route.method, BOB, digest=manifest.digest)
        refused = route.needs is Permission.UPDATE
        assert (answer.status_code == 403) is refused, route
        assert refused or answer.status_code == 200 or route.path in ("/job", "/cancel"), route


def test_who_may_read_a_model_may_ask_it(guarded: Server, manifest: Manifest) -> None:
    query = {"name": "m", "version": "1", "prompt": "Where is the book?"}
    with requests.Session() as bob:
        bob.auth = BOB
        bob.cookies.set("mledit-session", SESSION)
        answer = bob.get(f"{guarded.uri}/mledit/ask", params=query, timeout=60)
        end = time.monotonic() + 300
        while "data-working" in answer.text:
            assert time.monotonic() < end, answer.text
            answer = bob.get(answer.url, timeout=60)
        assert answer.status_code == 200, answer.text
        assert "No edit answers" in answer.text
        assert requests.get(answer.url, auth=ADA, timeout=60).status_code == 404
        assert requests.get(answer.url, auth=EVE, timeout=60).status_code == 403


def test_artifacts_are_read_inside_the_server(guarded: Server, manifest: Manifest) -> None:
    for who in (ADA, BOB, ADMIN):
        answer = send(guarded, "/manifest", "GET", who)
        assert answer.content == manifest.to_bytes()


def test_who_may_change_a_model_acts_under_their_own_name(
    guarded: Server, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = send(guarded, "/approve", "POST", ADA, digest="0" * 64)
    assert stale.status_code == 409
    for who in (ADA, ADMIN):
        answer = send(guarded, "/approve", "POST", who, digest=manifest.digest)
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/mledit/version?name=m&version=1&entry=")
        assert send(guarded, "/approve", "POST", who, csrf="0" * 64).status_code == 403
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADA[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADA[1])
    keep_tracking_uri(monkeypatch, guarded.uri)
    ledger = MlflowRegistry(guarded.uri).ledger("m")
    assert [entry.who for entry in ledger.values()] == [ADA[0], ADMIN[0]]


def test_under_gunicorn_and_a_static_prefix(
    chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--app-name", "mledit", "--static-prefix", "/ml", "--gunicorn-opts", "--threads 2"]
    server = start_server(tmp_path / "server", database=template_database(), options=options)
    try:
        made = publish(f"{server.uri}/ml", chat_folder, monkeypatch, "g")
        page = requests.get(f"{server.uri}/ml/mledit", timeout=60)
        assert page.status_code == 200
        assert ">g</a>" in page.text
        assert "anonymous" in page.text
        style = page.text.split('rel="stylesheet" href="')[1].split('"')[0]
        assert (
            requests.get(server.uri + style, timeout=60)
            .headers["Content-Type"]
            .startswith("text/css")
        )
        answer = requests.get(f"{server.uri}/ml/mledit/manifest?name=g", timeout=60)
        assert answer.content == made.to_bytes()
        assert requests.get(f"{server.uri}/mledit", timeout=60).status_code == 404
    finally:
        server.kill()


def test_ui_serves_the_store_in_use(
    chat_folder: Path, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish(tracking, chat_folder, monkeypatch, "u")
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow_edit", "ui", "--port", str(port), "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "MLEDIT_AUTHOR": "Ada"},
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["address"] == f"http://127.0.0.1:{port}/mledit"
        wait_for(process, lambda: answers(f"http://127.0.0.1:{port}/health"), tmp_path / "log")
        assert "Ada" in requests.get(said["address"], timeout=60).text
        answer = requests.get(f"{said['address']}/manifest?name=u", timeout=60)
        assert answer.content == made.to_bytes()
    finally:
        end(process, signal.SIGTERM)
    assert process.stdout.read() == b""
    assert (tmp_path / "log").read_text() == ""
