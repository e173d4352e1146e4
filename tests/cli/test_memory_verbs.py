"""Editors that remember edits, from the command line: every verb knows the kind `memory`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, FILM, RIVER

from cli.conftest import Mledit

Write = Callable[..., Path]
Q = "-q"


@pytest.mark.parametrize("editor", ["memory", "defer"])
def test_a_memory_is_applied_and_one_edit_reverted(
    mledit: Mledit, model: str, write_edits: Write, suite_file: Path, editor: str
) -> None:
    file = write_edits(
        {"prompt": BOOK, "target": "Rome", "id": "book"},
        {"prompt": FILM, "target": "Oslo", "id": "film"},
    )
    made = mledit("apply", model, file, "--editor", editor, "--suite", suite_file, Q, "--json")
    assert made.code == 0, made.err
    assert made.json["batch"]["editor"] == editor
    assert made.json["unsolved"] == []
    assert made.json["scorecard"]["reliability"] == 1
    (seen,) = mledit("inspect", f"{model}@2", "book", "--json").json["entries"]
    assert (seen["edit_id"], seen["editor"], seen["scope"]) == ("book", editor, "hidden")
    assert seen["radius"] == seen["effective_radius"]
    blamed = mledit("blame", f"{model}@2", FILM, Q, "--json").json
    assert blamed["fired"]["edit_id"] == "film"
    assert blamed["fired"]["match"] > 0.5
    second = write_edits({"prompt": RIVER, "target": "Lima", "id": "river"})
    args = ("--editor", editor, "--parent", "1", "--suite", suite_file, Q)
    assert mledit("apply", model, second, *args).code == 0
    merged = mledit("merge", f"{model}@2", f"{model}@3", "--no-measure", Q, "--json")
    assert merged.code == 0, merged.err
    assert merged.json["conflicts"] == []
    assert answers(mledit, f"{model}@4") == ["Rome", "Oslo", "Lima"]
    back = mledit("revert", f"{model}@4", "film", "--no-measure", Q)
    assert back.code == 0, back.err
    plain = answers(mledit, f"{model}@1")
    found = answers(mledit, f"{model}@5")
    assert (found[0], found[2]) == ("Rome", "Lima")
    assert found[1] != "Oslo" or plain[1] == "Oslo"
    gone = mledit("diff", f"{model}@4", f"{model}@5", Q, "--json")
    assert [edit["id"] for edit in gone.json["edits"]["removed"]] == ["film"]


def answers(mledit: Mledit, version: str) -> list[Any]:
    ran = mledit("ask", version, BOOK, FILM, RIVER, Q, "--json")
    assert ran.code == 0, ran.err
    return [answer["edited"] for answer in ran.json["answers"]]
