"""Every bad input has its error, its exit code, one JSON object, and registers nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, Recorder
from servers import free_port

from cli.conftest import Mledit
from mlflow_edit import MlflowRegistry
from mlflow_edit.registry.names import experiment_name

LONG = "Where is the book? " * 60
GOOD = '{"prompt": "Where is the book?", "target": "Rome"}\n'


def states(registry: MlflowRegistry, name: str = "m") -> tuple[int, list[str], list[str]]:
    """Return the number of versions, and the states of the other runs and LoggedModels."""
    versions = registry.versions(name)
    known = {v.run_id for v in versions}
    experiment = registry.client.get_experiment_by_name(experiment_name(name))
    runs = registry.client.search_runs([experiment.experiment_id])
    models = registry.client.search_logged_models([experiment.experiment_id])
    return (
        len(versions),
        sorted(run.info.status for run in runs if run.info.run_id not in known),
        sorted(str(model.status) for model in models if model.source_run_id not in known),
    )


APPLY: dict[str, tuple[str | bytes, list[str], int, str]] = {
    "malformed line": ('{"prompt": "a",}\n', [], 2, "InvalidEdit"),
    "empty file": ("", [], 2, "InvalidEdit"),
    "unknown editor": (GOOD, ["--editor", "grase"], 2, "UnknownEditor"),
    "parameter out of range": (GOOD, ["--param", "radius=-1"], 2, "InvalidParams"),
    "unknown parameter": (GOOD, ["--param", "colour=red"], 2, "InvalidParams"),
    "parameter without value": (GOOD, ["--param", "radius"], 2, "InvalidParams"),
    "prompt too long": (f'{{"prompt": "{LONG}", "target": "b"}}\n', [], 2, "InvalidEdit"),
    "target of no tokens": ('{"prompt": "a", "target": " \\t"}\n', [], 2, "InvalidEdit"),
    "not UTF-8": (b'{"prompt": "\xff", "target": "b"}\n', [], 2, "InvalidEdit"),
    "unknown parent": (GOOD, ["--parent", "9"], 3, "VersionNotFound"),
    "unknown alias": (GOOD, ["--parent", "production"], 3, "VersionNotFound"),
    "unknown revision": (GOOD, ["--from-git", "nowhere"], 2, "InvalidInputError"),
    "no suite": (GOOD, ["--suite", "no-such.jsonl"], 2, "InvalidInputError"),
    "bad suite": (GOOD, ["--suite", "edits.jsonl", "--param", "radius"], 2, "InvalidParams"),
    "not to be learned": (
        GOOD, ["--param", "max_steps=1", "--param", "loss_target=0.001"], 8, "NotConverged",
    ),
}  # fmt: skip


def test_apply_refuses_and_registers_nothing(
    mledit: Mledit, model: str, tmp_path: Path, suite_file: Path
) -> None:
    failed = {}
    for what, (content, options, code, kind) in APPLY.items():
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "edits.jsonl").write_bytes(data)
        arguments = ["apply", model, tmp_path / "edits.jsonl", "-q"]
        arguments += options if "--suite" in options else [*options, "--suite", suite_file]
        plain, ran = mledit(*arguments), mledit(*arguments, "--json")
        error = ran.json["error"]
        right = (
            (plain.code, plain.out, ran.code) == (code, "", code)
            and plain.err.startswith("Error: ")
            and "Traceback" not in plain.err + ran.err
            and ran.json.keys() == {"error"}
            and error.keys() - {"problems", "edits"} == {"type", "message", "hint", "exit_code"}
            and (error["type"], error["exit_code"]) == (kind, code)
            and plain.err.startswith(f"Error: {error['message']}")
        )
        if not right:
            failed[what] = (plain, ran)
    assert failed == {}
    count, runs, models = states(MlflowRegistry())
    assert (count, set(runs) - {"FAILED"}, set(models)) == (1, set(), set())


NAMES: list[tuple[list[str], int, str]] = [
    (["apply", "m", "no-such.jsonl"], 2, "InvalidEdit"),
    (["apply", "a b", "e.jsonl"], 2, "InvalidInputError"),
    (["apply", "nobody", "e.jsonl"], 3, "VersionNotFound"),
    (["apply", "m@1", "e.jsonl"], 2, "InvalidInputError"),
    (["log", "nobody"], 3, "VersionNotFound"),
    (["log", "../m"], 2, "InvalidInputError"),
    (["log", "m\udcff"], 2, "InvalidInputError"),
    (["show", "m@"], 2, "InvalidInputError"),
    (["show", "m@a b"], 2, "InvalidInputError"),
    (["show", "m@7"], 3, "VersionNotFound"),
    (["show", "m@production"], 3, "VersionNotFound"),
    (["show", "m@0123456789"], 3, "VersionNotFound"),
    (["show", "models:/nobody/1"], 3, "VersionNotFound"),
    (["show", "models:/m-00000000000000000000000000000000"], 3, "VersionNotFound"),
    (["inspect", "m", "no-such-edit"], 3, "EditNotFound"),
    (["ask", "m", " "], 2, "InvalidInputError"),
    (["ask", "m", LONG], 2, "InvalidInputError"),
    (["eval", "m", "--suite", "no-such.jsonl"], 2, "InvalidInputError"),
    (["init", "a/b", "--base", "x"], 2, "InvalidInputError"),
    (["init", "n", "--base", "./no-such"], 3, "NotFoundError"),
    (["init", "n", "--base", "."], 8, "UnsupportedModel"),
    (["init", "n", "--base", "models:/nobody/1"], 3, "VersionNotFound"),
    (["init", "n", "--base", "models:/nobody@x"], 3, "VersionNotFound"),
    (["init", "n", "--base", "runs:/0123456789abcdef0123456789abcdef/x"], 3, "VersionNotFound"),
    (["init", "n", "--base", "nobody/nothing"], 3, "NotFoundError"),
    (["init", "n", "--base", "a b/c"], 2, "InvalidInputError"),
]  # fmt: skip


def test_bad_names_and_references(mledit: Mledit, model: str, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(GOOD)
    failed = []
    for args, code, kind in NAMES:
        ran = mledit(*args, "--json")
        if (ran.code, ran.json["error"]["type"]) != (code, kind) or "Traceback" in ran.err:
            failed.append((args, ran))
    assert failed == []
    registry = MlflowRegistry()
    assert registry.models() == ["m"]
    assert states(registry) == (1, [], [])


def test_another_base_for_the_same_name(mledit: Mledit, model: str, tmp_path: Path) -> None:
    from tiny_models import save_tiny, tiny_base

    other = save_tiny(tiny_base("llama-chat", seed=5), tmp_path / "other")
    ran = mledit("init", "m", "--base", other, "--json")
    assert (ran.code, ran.json["error"]["type"]) == (7, "BaseMismatchError")
    assert states(MlflowRegistry()) == (1, [], [])


def test_an_ambiguous_digest(mledit: Mledit, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    real = MlflowRegistry.versions

    def alike(self: MlflowRegistry, name: str) -> list[Any]:
        (root,) = real(self, name)
        twins = [replace(root, version=n, digest="abcd" + str(n) * 60) for n in (1, 2)]
        return [replace(v, content_digest=str(v.version) * 64) for v in twins]

    monkeypatch.setattr(MlflowRegistry, "versions", alike)
    ran = mledit("show", "m@abcd", "--json")
    assert ran.code == 3
    assert "versions 1, 2" in ran.json["error"]["message"]


def test_a_server_that_is_not_there(
    mledit: Mledit, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    for args in (["log", "m"], ["init", "m", "--base", "smollm2"]):
        ran = mledit("--tracking-uri", f"http://127.0.0.1:{free_port()}", *args, "--json")
        assert (ran.code, ran.json["error"]["type"]) == (9, "RegistryError"), ran
        assert "tracking server" in ran.json["error"]["hint"]


@pytest.mark.parametrize(
    "uri", ["file:///tmp/no-such-mlruns", "mlruns", "sqlite:////dev/null/a.db"]
)
def test_a_store_that_cannot_be(mledit: Mledit, uri: str) -> None:
    ran = mledit("--tracking-uri", uri, "log", "m", "--json")
    assert (ran.code, ran.json["error"]["type"]) == (9, "RegistryError"), ran


@pytest.mark.parametrize("stage", ["loading", "learning", "measuring", "registering"])
def test_ctrl_c_at_each_stage(
    mledit: Mledit,
    model: str,
    write_edits: Callable[..., Path],
    suite_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    from contextlib import nullcontext

    def interrupt(text: str) -> None:
        if text.startswith(stage):
            raise KeyboardInterrupt

    monkeypatch.setattr(
        "mlflow_edit.cli.progress.reporting", lambda quiet: nullcontext(Recorder(interrupt))
    )
    file = write_edits((BOOK, "Rome"))
    ran = mledit("apply", model, file, "--suite", suite_file)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.startswith("\nError: interrupted\nHint: ")  # behind the ^C
    ran = mledit("apply", model, file, "--suite", suite_file, "--json")
    assert ran.json["error"]["exit_code"] == ran.code == 130
    assert states(MlflowRegistry()) == (1, [], [])


def test_a_name_that_no_terminal_can_print(mledit: Mledit, model: str) -> None:
    ran = mledit("apply", model, "no-such-\udcff.jsonl", "--json")
    assert ran.json["error"]["type"] == "InvalidEdit"
    assert mledit("apply", model, "no-such-\udcff.jsonl").code == 2
