"""`mledit ui` shows what is wrong with the server, and none of its chatter."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cli.conftest import Mledit
from mlflow_edit.operations import ui as operation

CHATTER = "[MLflow] Security middleware enabled with default settings (localhost-only)."


def server_that(monkeypatch: pytest.MonkeyPatch, code: int, *lines: str) -> None:
    """Let `ui` start a server that says these lines and ends."""
    run_as_server(monkeypatch, f"print(*{lines!r}, sep='\\n'); raise SystemExit({code})")


def run_as_server(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let `ui` start a process that runs a script."""

    @contextmanager
    def started(**options: Any) -> Iterator[Any]:
        served = operation.Served(address="here", store="it", acts_as="Ada", is_private=True)
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
        )
        try:
            yield served, process
        finally:
            process.kill()
            process.communicate()

    monkeypatch.setattr(operation, "ui", started)


@pytest.mark.parametrize("code", [0, 3])
def test_a_server_that_fails_is_heard_out(
    mledit: Mledit, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """MLflow's command ends with 0 where the port is taken."""
    server_that(monkeypatch, code, CHATTER, "the port is taken")
    ran = mledit("ui", "--json")
    assert (ran.code, ran.err) == (9, "the port is taken\n")
    assert ran.out.count("\n") == 2  # what is served, and the error
    assert '"message": "the server ended"' in ran.out


def test_a_server_that_ends_well_says_nothing(
    mledit: Mledit, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_that(monkeypatch, 0, CHATTER)
    ran = mledit("ui")
    assert (ran.code, ran.out, ran.err) == (0, "here on it, acting as Ada\n", "")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt: it is ignored in tests that a shell started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_ctrl_c_is_how_a_server_is_ended(
    mledit: Mledit, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    run_as_server(
        monkeypatch,
        "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)",
    )
    ran = mledit("ui", *options)
    assert (ran.code, ran.err) == (130, "")
    assert "rror" not in ran.out
