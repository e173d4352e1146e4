"""Receive MLflow's webhooks, and hold every new version against a gate.

MLflow calls this server when a version is created. A version that meets the gate becomes
`candidate`; one that does not leaves a refusal in the ledger. The answer goes out at once, and the
work is done after it: MLflow waits for 30 seconds, and what you add here may take longer.

    WEBHOOK_SECRET=… MLFLOW_TRACKING_URI=… python receiver.py --gate gate.yaml

MLflow delivers to https only: let a proxy with a certificate stand before it.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import queue
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mlflow_edit import promote
from mlflow_edit.errors import MlflowEditError

MAX_AGE = 300  # seconds between a delivery's time and ours
MAX_BODY = 1024 * 1024


class Refused(Exception):
    """A delivery that is not MLflow's, or not of today."""


class Verifier:
    """Tells MLflow's deliveries from others: signature, freshness, and no delivery twice.

    Args:
        secret: the one that the webhook was created with.

    Raises:
        ValueError: it is empty: anybody could sign.
    """

    def __init__(self, secret: str) -> None:
        if not secret:
            raise ValueError("WEBHOOK_SECRET is empty")
        self._secret = secret.encode()
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def is_new(self, headers: Mapping[str, str], body: bytes, *, now: float) -> bool:
        """Check one delivery, and tell whether it was not there before.

        MLflow delivers again where our answer was lost: that is no error, and no work either.

        Raises:
            Refused: it is forged, or too old.
        """
        delivery = headers.get("X-MLflow-Delivery-Id") or ""
        moment = headers.get("X-MLflow-Timestamp") or ""
        signature = headers.get("X-MLflow-Signature") or ""
        signed = b".".join((delivery.encode(), moment.encode(), body))
        digest = hmac.new(self._secret, signed, hashlib.sha256).digest()
        expected = f"v1,{base64.b64encode(digest).decode()}"
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Refused("the signature is wrong")
        if not moment.isdecimal() or abs(now - int(moment)) > MAX_AGE:
            raise Refused("the delivery is too old, or from the future")
        with self._lock:
            self._seen = {key: at for key, at in self._seen.items() if now - at <= 2 * MAX_AGE}
            new = delivery not in self._seen
            self._seen.setdefault(delivery, now)
            return new


def created(body: bytes) -> str | None:
    """Return the version that an event says was created, None where it tells of something else.

    Raises:
        ValueError: this is no event of MLflow's.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("the body is not JSON") from error
    try:
        if (event["entity"], event["action"]) != ("model_version", "created"):
            return None
        return f"{event['data']['name']}@{event['data']['version']}"
    except (KeyError, TypeError) as error:
        raise ValueError("the body is no event") from error


class Receiver(ThreadingHTTPServer):
    """Takes deliveries in, and works through them one at a time.

    Args:
        address: host and port.
        secret: of the webhook.
        gate: a YAML file of thresholds.
        alias: what a version that meets them becomes.
    """

    def __init__(self, address: tuple[str, int], *, secret: str, gate: str, alias: str) -> None:
        super().__init__(address, Handler)
        self.verifier = Verifier(secret)
        self.gate, self.alias = gate, alias
        self.waiting: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            ref = self.waiting.get()
            try:
                promote(ref, to=self.alias, gate=self.gate, note="webhook", author="CI")
                print(f"{ref} is now {self.alias}", flush=True)
            except MlflowEditError as error:
                print(f"{ref}: {error.message}", flush=True)
            except Exception as error:  # noqa: BLE001  the versions after this one must be seen to
                print(f"{ref} was not looked at: {error!r}", flush=True)


class Handler(BaseHTTPRequestHandler):
    """Answers one delivery."""

    server: Receiver
    timeout = 10  # seconds that a slow sender is given

    def do_POST(self) -> None:
        """Verify a delivery and take it in."""
        said = self.headers.get("Content-Length") or "0"
        length = int(said) if said.isdecimal() and len(said) < 10 else MAX_BODY + 1
        if length > MAX_BODY:
            return self._answer(413)
        body = self.rfile.read(length)
        try:
            new = self.server.verifier.is_new(self.headers, body, now=time.time())
        except Refused as error:
            print(f"refused: {error}", flush=True)
            return self._answer(401)
        try:
            ref = created(body)
        except ValueError as error:
            print(f"not understood: {error}", flush=True)
            return self._answer(400)
        if new and ref:
            self.server.waiting.put(ref)
        return self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Leave requests out of the log."""


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Hold new versions against a gate.")
    parser.add_argument("--gate", required=True, metavar="FILE")
    parser.add_argument("--alias", default="candidate")
    parser.add_argument("--port", type=int, default=8800)
    given = parser.parse_args()
    secret = os.environ["WEBHOOK_SECRET"]
    address = ("127.0.0.1", given.port)
    with Receiver(address, secret=secret, gate=given.gate, alias=given.alias) as receiver:
        receiver.serve_forever()


if __name__ == "__main__":
    main()
