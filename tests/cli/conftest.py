"""What these tests share with the tests of the other upper layers, and ways to run `mledit`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import chat_folder as chat_folder
from registry_fixtures import sqlite_registry as sqlite_registry
from registry_fixtures import suite as suite
from registry_fixtures import suite_file as suite_file
from registry_fixtures import tracking as tracking
from registry_fixtures import write_edits as write_edits
from servers import server as server

from mlflow_edit.cli import main


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output; nothing else may stand there."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Mledit = Callable[..., Ran]


@pytest.fixture
def mledit(tracking: str, capfd: pytest.CaptureFixture[str]) -> Mledit:
    """Run a verb in this process, on a store of its own."""

    def run(*args: object) -> Ran:
        capfd.readouterr()
        code = main._exit_code([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def model(mledit: Mledit, chat_folder: Path) -> str:
    """The name of a model with a root version."""
    assert mledit("init", "m", "--base", chat_folder, "-q").code == 0
    return "m"


def in_shell(
    *args: object, cwd: Path, shell: str | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run `mledit` as a process of its own; with `shell`, a pipeline in which it is `$MLEDIT`."""
    variables = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "NO_COLOR"))},
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "MLEDIT": f"{sys.executable} -m mlflow_edit",
        **environment,
    }
    command = (
        ["bash", "-c", shell] if shell else [sys.executable, "-m", "mlflow_edit", *map(str, args)]
    )
    return subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=170, check=False
    )
