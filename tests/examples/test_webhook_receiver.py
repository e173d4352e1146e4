"""The example receiver: a real server delivers to it, and nobody else is believed."""

import hashlib
import http.client
import importlib.util
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.webhooks.delivery import _generate_hmac_signature
from registry_fixtures import (
    chat_folder as chat_folder,
)
from registry_fixtures import (
    draft_of,
    hand_made_batch,
    keep_tracking_uri,
    new_name,
    root_of,
    scratch,
    template_database,
)
from servers import Server, start_server

from mlflow_edit.core.ledger import Move
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.registry.mlflow_registry import MlflowRegistry

FOLDER = Path(__file__).parents[2] / "examples" / "webhook_receiver"
SECRET = "a secret of sixteen signs or more"
PATIENCE = 60  # seconds


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The module of the example."""
    spec = importlib.util.spec_from_file_location("receiver", FOLDER / "receiver.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def receiver(example: ModuleType) -> Iterator[Any]:
    """A receiver on a free port."""
    gate = str(FOLDER / "gate.yaml")
    with example.Receiver(("127.0.0.1", 0), secret=SECRET, gate=gate, alias="candidate") as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join(10)


def url_of(receiver: Any) -> str:
    return f"http://127.0.0.1:{receiver.server_address[1]}/mlflow"


def signed(body: bytes, *, delivery: str = "d-1", moment: int | None = None) -> dict[str, str]:
    """Return the headers that MLflow's own code signs a body with."""
    at = str(int(time.time()) if moment is None else moment)
    return {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": at,
        "X-MLflow-Signature": _generate_hmac_signature(SECRET, delivery, at, body.decode()),
    }


def post(receiver: Any, body: bytes, headers: dict[str, str]) -> int:
    return requests.post(url_of(receiver), data=body, headers=headers, timeout=20).status_code


def test_a_delivery_is_worked_through_once(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(receiver.waiting, "put", taken.append)
    body = b'{"entity": "model_version", "action": "created", "data": {"name": "m", "version": 2}}'
    headers = signed(body)
    assert [post(receiver, body, headers) for _ in range(2)] == [204, 204]
    assert taken == ["m@2"]
    assert post(receiver, body, signed(body, delivery="d-2")) == 204
    assert taken == ["m@2", "m@2"]


@pytest.mark.parametrize("part", ["body", "delivery", "moment", "signature", "nothing"])
def test_a_forged_delivery_is_refused(receiver: Any, part: str) -> None:
    body = b'{"entity": "model_version", "action": "created", "data": {}}'
    headers = signed(body)
    other = hashlib.sha256(b"other").hexdigest()
    changes = {
        "delivery": {"X-MLflow-Delivery-Id": "d-9"},
        "moment": {"X-MLflow-Timestamp": str(int(time.time()) + 1)},
        "signature": {"X-MLflow-Signature": f"v1,{other}"},
    }
    headers |= changes.get(part, {})
    sent = body + b" " if part == "body" else body
    assert post(receiver, sent, {} if part == "nothing" else headers) == 401
    assert receiver.waiting.empty()


def test_a_version_that_cannot_be_looked_at_does_not_stop_the_others(
    receiver: Any, example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    both = threading.Event()

    def promote(ref: str, **how: Any) -> None:
        seen.append(ref)
        if len(seen) == 1:
            raise OSError("the disk is full")
        both.set()

    monkeypatch.setattr(example, "promote", promote)
    for ref in ("m@2", "m@3"):
        receiver.waiting.put(ref)
    assert both.wait(10)
    assert seen == ["m@2", "m@3"]


def test_an_empty_secret_is_none(example: ModuleType) -> None:
    with pytest.raises(ValueError, match="empty"):
        example.Verifier("")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{nope", "the body is not JSON"),
        (b"", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[1]", "the body is no event"),
        (b'{"entity": "model_version"}', "the body is no event"),
        (b'{"entity": "model_version", "action": "created", "data": {}}', "the body is no event"),
        (b'{"entity": "model_version", "action": "created", "data": 1}', "the body is no event"),
    ],
)
def test_a_signed_body_that_is_no_event_is_answered_plainly(
    receiver: Any, capfd: pytest.CaptureFixture[str], body: bytes, said: str
) -> None:
    assert post(receiver, body, signed(body)) == 400
    told = capfd.readouterr()
    assert (told.out, told.err) == (f"not understood: {said}\n", "")
    assert receiver.waiting.empty()


@pytest.mark.parametrize("length", ["many", "-1", "9" * 30])
def test_a_length_that_is_none_is_refused(receiver: Any, length: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.server_address[1], timeout=10)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", length)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("age", [-400, 400])
def test_an_old_delivery_is_refused(receiver: Any, age: int) -> None:
    body = b'{"entity": "registered_model", "action": "created", "data": {}}'
    assert post(receiver, body, signed(body, moment=int(time.time()) + age)) == 401


@pytest.fixture(scope="module")
def delivering_server() -> Server:
    """A server that may deliver to this machine, without TLS."""
    folder = scratch() / "webhooks"
    folder.mkdir()
    shutil.copy(template_database(), folder / "template.db")
    return start_server(
        folder,
        database=folder / "template.db",
        environment={
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            "MLFLOW_WEBHOOK_CACHE_TTL": "1",
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        },
    )


def test_a_server_delivers_and_the_gate_decides(
    delivering_server: Server,
    receiver: Any,
    chat_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_tracking_uri(monkeypatch, delivering_server.uri)
    registry = MlflowRegistry(delivering_server.uri)
    name = new_name("hooked")
    root = root_of(registry, chat_folder, name)
    MlflowClient().create_webhook(
        name=name, url=url_of(receiver), events=["model_version.created"], secret=SECRET
    )
    time.sleep(1.5)  # the server remembers for a second that there were none
    for i, score in enumerate((1.0, 0.5)):
        card = Scorecard(retention=score, locality=1.0, n_probes={"retention": 1})
        batch = hand_made_batch(root[1].base.digest, [(f"Where {i}?", "Oslo")])
        registry.publish(draft_of(name, root[1].base, parents=[root], batch=batch, scorecard=card))
    limit = time.monotonic() + PATIENCE
    while len(registry.ledger(name)) < 2 and time.monotonic() < limit:
        time.sleep(0.2)
    numbers = {info.digest: info.version for info in registry.versions(name)}
    moves = [entry for entry in registry.ledger(name).values() if isinstance(entry, Move)]
    assert {(move.kind, numbers[move.to or ""]) for move in moves} == {
        ("promotion", 2), ("refusal", 3),
    }  # fmt: skip
    assert registry.versions(name)[1].aliases == ("candidate",)
