"""Edits as an MLflow dataset, runs that say which commit they are about, and a light import."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from mlflow_edit.core.edit_file import parse_edits
from mlflow_edit.errors import InvalidEdit
from mlflow_edit.mlflow_plugins import run_context


@pytest.fixture(autouse=True)
def _nothing_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_context, "_last", None)
    monkeypatch.delenv(run_context.VARIABLE, raising=False)


def test_a_dataset_of_edits_is_named_by_their_digest(edits_file: Path) -> None:
    data = mlflow.data.from_edits(edits_file)
    assert data.digest == parse_edits(edits_file.read_text(), format="jsonl").batch.digest[:32]
    assert data.profile == {"n_edits": 2, "n_rephrases": 1, "n_locality": 1, "n_portability": 0}
    assert list(data.df["target"]) == ["Rome", "Oslo"]
    named = mlflow.data.from_edits(edits_file, name="mine", digest="other")
    assert (named.name, named.digest) == ("mine", "other")


def test_any_text_is_kept_and_no_warning_is_given(write_edits: Any) -> None:
    prompt, target = "Where\u2028is\x85 <b>it</b>?", "a\nb\x0b\x1cc"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = mlflow.data.from_edits(write_edits((prompt, target)))
    (row,) = data.df.to_dict("records")
    assert (row["prompt"], row["target"]) == (prompt, target)
    assert json.loads(row["edit"])["target"] == target


def test_it_is_the_dataset_that_apply_logged(version: str, edits_file: Path) -> None:
    run_id = MlflowClient().get_logged_model(version).source_run_id
    (logged,) = mlflow.get_run(run_id).inputs.dataset_inputs
    data = mlflow.data.from_edits(edits_file, name="m-edits")
    assert (logged.dataset.name, logged.dataset.digest) == (data.name, data.digest)
    metrics = MlflowClient().get_logged_model(version).metrics or []
    assert {(m.dataset_name, m.dataset_digest) for m in metrics} == {(data.name, data.digest)}


def test_a_malformed_file_is_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "edits.jsonl").write_text('{"prompt": "Where?"}\n')
    with pytest.raises(InvalidEdit, match="line 1: target"):
        mlflow.data.from_edits(tmp_path / "edits.jsonl")


def committed(folder: Path) -> str:
    """Make the folder a git repository with all of its files in it; return the commit."""
    author = ["-c", "user.name=Ada Byron", "-c", "user.email=ada@example.org"]
    for command in (["init", "-q"], ["add", "edits.jsonl"], [*author, "commit", "-qm", "Correct"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def tags_of_a_run() -> dict[str, str]:
    with mlflow.start_run() as run:
        pass
    tags = mlflow.get_run(run.info.run_id).data.tags
    return {key: value for key, value in tags.items() if key.startswith("mledit.")}


def test_runs_say_which_commit_of_the_edits_they_are_about(
    tracking: str, edits_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = committed(edits_file.parent)
    assert tags_of_a_run() == {}
    monkeypatch.setenv(run_context.VARIABLE, str(edits_file))
    expected = {
        "mledit.edits.path": "edits.jsonl",
        "mledit.edits.commit": commit,
        "mledit.edits.author": "Ada Byron <ada@example.org>",
        "mledit.edits.summary": "Correct",
        "mledit.edits.dirty": "false",
    }
    assert tags_of_a_run() == expected
    monkeypatch.delenv(run_context.VARIABLE)
    mlflow.data.from_edits(edits_file)
    assert tags_of_a_run() == expected


def test_importing_mlflow_stays_light() -> None:
    code = """
import warnings; warnings.simplefilter("error", UserWarning)
import sys, mlflow
mlflow.data.from_edits
assert "mlflow_edit.mlflow_plugins.run_context" in sys.modules
print(*sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours: set[Any] = {m for m in run.stdout.split() if m.startswith("mlflow_edit")}
    assert not {"torch", "transformers", "safetensors", "git"} & set(run.stdout.split())
    assert len(ours) < 6, ours
