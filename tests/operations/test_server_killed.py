"""A tracking server that dies in the middle of an apply: nothing is visible, and the next works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, Recorder, keep_tracking_uri, template_database
from servers import start_server

from mlflow_edit import MlflowRegistry, apply, ask, init
from mlflow_edit.errors import RegistryError


def test_killed_before_the_version_is_registered(
    tmp_path: Path,
    chat_folder: Path,
    suite: Any,
    write_edits: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    server = start_server(tmp_path / "server", database=template_database())
    keep_tracking_uri(monkeypatch, server.uri)
    registry = MlflowRegistry(server.uri)
    init("m", base=str(chat_folder), registry=registry)
    file = write_edits((BOOK, "Rome"))

    def kill(text: str) -> None:
        if text == "registering the version":
            server.kill()

    with pytest.raises(RegistryError) as raised:
        apply("m", [file], suite=suite, registry=registry, reporter=Recorder(kill))
    assert raised.value.exit_code == 9
    assert "tracking server" in str(raised.value.hint)

    again = start_server(tmp_path / "server")
    registry = MlflowRegistry(again.uri)
    assert [v.version for v in registry.versions("m")] == [1]
    made = apply("m", [file], suite=suite, registry=registry)
    assert made.version == 2
    assert ask("m", [BOOK], registry=registry).answers[0].edited == "Rome"
    again.kill()
