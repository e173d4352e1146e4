"""What each verb prints: one JSON object with the fields of the contract, or text for people."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, FILM, draft_of, root_of

from cli.conftest import Mledit
from mlflow_edit import MlflowRegistry
from mlflow_edit.core.scorecard import Scorecard

VERSION = {
    "name", "version", "digest", "content_digest", "parents", "message", "author",
    "created_at", "aliases",
}  # fmt: skip
BATCH = {"digest", "editor", "n_edits", "bytes", "run_id"}
SCORES = {"reliability", "generality", "locality", "portability", "retention", "perplexity_ratio"}
Write = Callable[..., Path]


@pytest.fixture
def applied(mledit: Mledit, model: str, write_edits: Write, suite_file: Path) -> Any:
    file = write_edits({"prompt": BOOK, "target": "Rome", "id": "book"}, (FILM, "Oslo"))
    ran = mledit(
        "apply", model, file, "-m", "Move [bold]them[/bold]", "--suite", suite_file, "--json"
    )
    assert ran.code == 0, ran.err
    return ran.json


def test_init(mledit: Mledit, chat_folder: Path) -> None:
    made = mledit("init", "m", "--base", chat_folder, "--author", "Ada", "--json")
    assert made.code == 0
    assert made.json["schema"] == "mledit.init/1"
    assert made.json.keys() >= VERSION | {"batches", "scorecard"}
    assert (made.json["version"], made.json["author"], made.json["parents"]) == (1, "Ada", [])
    assert made.err.splitlines() == [
        f"finding the base model {chat_folder}",
        "computing the digest of the base model",
        "storing the base model in MLflow",
    ]
    again = mledit("init", "m", "--base", chat_folder, "-q")
    assert (again.code, again.err) == (0, "Note: m exists already over this base model\n")
    assert again.out.startswith("m@1  ")
    second = mledit("init", "n", "--base", made.json["base"]["uri"], "-q", "--json")
    assert second.json["base"]["digest"] == made.json["base"]["digest"]


def test_apply(applied: Any) -> None:
    assert applied["schema"] == "mledit.apply/1"
    assert applied.keys() >= VERSION | {"batch", "batches", "scorecard", "edits", "unsolved"}
    assert applied["batch"].keys() >= BATCH
    assert applied["batches"] == [applied["batch"]]
    assert applied["scorecard"].keys() >= SCORES
    assert applied["scorecard"]["portability"] is None
    assert applied["edits"][0] == {
        "id": "book", "prompt": BOOK, "target": "Rome", "before": "Paris", "after": "Rome",
        "ok": True,
    }  # fmt: skip


def test_apply_tells_of_its_stages_on_stderr_only(
    mledit: Mledit, model: str, write_edits: Write, suite_file: Path
) -> None:
    file = write_edits({"prompt": "Where is the [b]book?", "target": "Rome", "colour": 1})
    ran = mledit("apply", model, file, "--suite", suite_file, "--param", "max_steps=150")
    assert ran.code == 0, ran.err
    assert [text.split(" ")[0] for text in ran.err.splitlines()] == [
        "Warning:", "loading", "learning", "measuring", "registering",
    ]  # fmt: skip
    assert "[b]book" in ran.out
    assert "reliability" in ran.out
    quiet = mledit("apply", model, file, "--suite", suite_file, "--param", "max_steps=150", "-q")
    assert (quiet.code, quiet.err) == (0, "")
    assert "nothing to do" in quiet.out


def test_reading_verbs(mledit: Mledit, applied: Any, suite_file: Path, tmp_path: Path) -> None:
    history = mledit("log", "m", "--json")
    assert history.json["schema"] == "mledit.log/1"
    assert [v["version"] for v in history.json["versions"]] == [2, 1]
    assert all(v.keys() >= VERSION for v in history.json["versions"])
    assert history.json["versions"][0]["scorecard"].keys() >= SCORES
    assert mledit("log", "m", "--oneline").out.splitlines()[0].endswith("Move [bold]them[/bold]")
    assert "    Move [bold]them[/bold]" in mledit("log", "m").out.splitlines()

    shown = mledit("show", "m@2", "--json").json
    assert shown["schema"] == "mledit.show/1"
    assert shown.keys() >= VERSION | {"batches", "scorecard", "edits", "added", "removed"}
    assert shown["edits"][0].keys() >= {"id", "prompt", "target", "before", "after", "ok"}
    assert shown["digest"] == applied["digest"]
    assert mledit("show", f"models:/m/{2}", "--json").json == shown
    assert applied["digest"] in mledit("show", "m").out

    looked = mledit("inspect", "m", "--json").json
    assert (looked["schema"], looked["n_entries"]) == ("mledit.inspect/1", 2)
    one = mledit("inspect", "m", "book", "--json").json
    assert [e["edit_id"] for e in one["entries"]] == ["book"]
    assert "neighbour" in mledit("inspect", "m", "book").out
    assert "2 entries" in mledit("inspect", "m").out

    asked = mledit("ask", "m", BOOK, "Where is the river?", "-q", "--json").json
    assert asked["schema"] == "mledit.ask/1"
    first, second = asked["answers"]
    assert (first["base"], first["edited"]) == ("Paris", "Rome")
    assert first["fired"].keys() == {"edit_id", "batch", "distance", "radius", "match"}
    assert second["fired"] is None
    assert "the base model answers" in mledit("ask", "m", "Where is the river?", "-q").out

    measured = mledit("eval", "m", "--suite", suite_file, "-q", "--json").json
    assert measured["schema"] == "mledit.eval/1"
    assert measured["scorecard"].keys() >= SCORES
    assert "measured again" in mledit("eval", "m", "--suite", suite_file, "-q").out

    nothing = mledit("inspect", "m@1", "--json").json
    assert (nothing["n_entries"], nothing["entries"]) == (0, [])
    assert mledit("show", "m@1").code == 0


def test_show_does_not_compare_what_another_suite_measured(
    mledit: Mledit, sqlite_registry: MlflowRegistry, chat_folder: Path
) -> None:
    cards = [
        Scorecard(reliability=right, locality=same, protocol={"suite": suite})
        for right, same, suite in ((0.5, 1.0, "old"), (1.0, 0.75, "new"))
    ]
    root = root_of(sqlite_registry, chat_folder, "m", scorecard=cards[0])
    sqlite_registry.publish(draft_of("m", root[1].base, parents=[root], scorecard=cards[1]))
    told = mledit("show", "m@2").out
    assert "@1 was measured by another protocol (suite): what it decides is not compared" in told
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.strip()}
    assert rows["reliability"] == ["1.000", "+0.500"]
    assert rows["locality"] == ["0.750"]


def test_no_colour_in_a_pipe_or_where_it_is_not_wanted(
    mledit: Mledit, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in mledit("log", model).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in mledit("log", model).out
    monkeypatch.setenv("NO_COLOR", "1")
    coloured = mledit("log", model).out
    assert not any(f"\x1b[{code}" in coloured for code in ("3", "9", "1;3"))
