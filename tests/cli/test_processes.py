"""`mledit` as a process of its own: what it leaves on standard error, in pipes, on Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from registry_fixtures import BOOK
from servers import free_port

from cli.conftest import in_shell


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, chat_folder: Path, suite_file: Path) -> Path:
    """A folder with an edits file, and a store that the first command makes anew."""
    folder = tmp_path_factory.mktemp("project")
    rows = [{"prompt": BOOK, "target": "Rome"}]
    (folder / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "suite.jsonl").write_text(suite_file.read_text())
    done = in_shell(
        "init",
        "m",
        "--base",
        chat_folder,
        cwd=folder,
        MLFLOW_TRACKING_URI=f"sqlite:///{folder}/a.db",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"finding the base model {chat_folder}",
        "computing the digest of the base model",
        "storing the base model in MLflow",
    ]
    return folder


def test_apply_says_only_what_is_ours(project: Path) -> None:
    done = in_shell(
        "apply", "m", "edits.jsonl", "--suite", "suite.jsonl", "--json",
        cwd=project, MLFLOW_TRACKING_URI=f"sqlite:///{project}/a.db",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "loading the base model",
        "learning 1 edit with grace",
        "measuring with 2 probes",
        "storing the sentence encoder in MLflow (once)",
        "registering the version",
    ]
    assert json.loads(done.stdout)["version"] == 2
    assert done.stdout.count("\n") == 1


def test_a_reader_that_leaves(project: Path) -> None:
    done = in_shell(
        cwd=project, MLFLOW_TRACKING_URI=f"sqlite:///{project}/a.db",
        shell="for i in 1 2 3; do :; done; $MLEDIT show m | head -1; exit ${PIPESTATUS[0]}",
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.startswith("m@")
    assert done.returncode in (0, 1, 141)


def test_a_server_that_is_not_there_is_noticed_soon(tmp_path: Path) -> None:
    started = time.monotonic()
    done = in_shell("log", "m", cwd=tmp_path, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 45  # most of it is importing, on a busy machine
    assert done.returncode == 9
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith("Error: listing versions of m: ")
    assert hint == "Hint: Is the tracking server up? Check MLFLOW_TRACKING_URI."


def test_ctrl_c(project: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow_edit", "apply", "m", "edits.jsonl", "--param", "layer=2"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{project}/a.db"},
        # a shell lets what runs in its background ignore interrupts, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert said == "loading the base model\n"
    assert out == ""
    assert "Error: interrupted" in rest.splitlines()
    assert "Traceback" not in rest
