"""The whole path on a tiny chat model, in memory and in MLflow."""

from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, FILM, RIVER, Recorder

from mlflow_edit import MemoryRegistry, apply, ask, diff, evaluate, init, inspect, load, log, show
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.composition import Composition
from mlflow_edit.registry.registry import Registry


@pytest.fixture(params=["memory", "sqlite"])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        return MemoryRegistry()
    found: Registry = request.getfixturevalue("sqlite_registry")
    return found


def test_from_base_to_measured_version(
    registry: Registry, chat_folder: Path, suite: Any, write_edits: Any, suite_file: Path
) -> None:
    root = init("m", base=str(chat_folder), author="Ada", message="start", registry=registry)
    assert (root.version, root.n_edits, root.parents, root.batches) == (1, 0, (), ())
    assert (root.author, root.message, root.base.source) == ("Ada", "start", "tiny-chat")

    reporter = Recorder()
    edits = write_edits(
        {"prompt": BOOK, "target": "Rome", "rephrases": ["The book is where?"], "id": "book"},
        {"prompt": FILM, "target": "Oslo", "locality": [RIVER], "note": "moved", "author": "Bo"},
    )
    made = apply(
        "m", [edits], message="Move them", author="Bo", suite=suite, registry=registry,
        reporter=reporter,
    )  # fmt: skip
    assert (made.version, made.n_edits, made.n_batches, made.parents) == (2, 2, 1, (root.digest,))
    assert [(e.before, e.after, e.ok) for e in made.edits] == [
        ("Paris", "Rome", True), ("Berlin", "Oslo", True),
    ]  # fmt: skip
    assert made.batch == made.batches[0]
    assert made.scorecard is not None
    assert made.scorecard["reliability"] == made.scorecard["locality"] == 1.0
    assert made.scorecard["portability"] is None
    assert made.scorecard["n_probes"]["generality"] == 1
    assert made.scorecard["protocol"]["suite"] == "tiny"
    assert reporter.stages[0] == "loading the base model"
    assert reporter.stages[-1] == "registering the version"
    assert reporter.steps

    history = log("m", registry=registry)
    assert [(v.version, v.message) for v in history.versions] == [(2, "Move them"), (1, "start")]
    assert history.heads == (2,)
    assert history.versions[0].scorecard is not None
    assert history.versions[0].scorecard["reliability"] == 1.0
    assert history.versions[0].digest == made.digest

    measured_first = diff("m@1", "m@2", registry=registry)
    assert (len(measured_first.scorecard) > 0, measured_first.protocol) == (True, ())

    shown = show("m@2", registry=registry)
    assert shown.version.digest == made.digest
    assert shown.added == made.batches
    assert (shown.removed, [p.version for p in shown.parent_changes]) == ((), [1])
    assert {(e.prompt, e.target, e.before, e.after, e.ok) for e in shown.edits} == {
        (BOOK, "Rome", "Paris", "Rome", True), (FILM, "Oslo", "Berlin", "Oslo", True),
    }  # fmt: skip
    assert {(e.author, e.note) for e in shown.edits} == {(None, None), ("Bo", "moved")}

    looked = inspect("m", "book", registry=registry)
    assert (looked.version, looked.n_entries, len(looked.entries)) == (2, 2, 1)
    entry = looked.entries[0]
    assert (entry.edit_id, entry.target, entry.after, entry.ok) == ("book", "Rome", "Rome", True)
    assert 0 < entry.effective_radius <= entry.radius
    assert all(not n.agrees and n.prompt == FILM for n in entry.neighbours)

    answered = ask("m@head", [BOOK, RIVER], registry=registry)
    assert [(a.base, a.edited) for a in answered.answers] == [("Paris", "Rome"), ("Rome", "Rome")]
    fired = answered.answers[0].fired
    assert fired is not None
    assert (fired.edit_id, fired.batch) == ("book", made.batches[0].digest)
    assert 0 <= fired.distance <= fired.radius
    assert answered.answers[1].fired is None

    again = evaluate("m@2", suite=suite_file, registry=registry)
    assert again.scorecard.reliability == 1.0
    assert all(abs(change) < 1e-9 for change in again.changes.values())
    assert again.run_id != made.run_id
    assert log("m", registry=registry) == history

    with load("m@2", registry=registry) as edited:
        assert _answer(edited) == "Rome"
        with edited.disabled():
            assert _answer(edited) == "Paris"
        assert _answer(edited) == "Rome"
    assert _answer(EditedModel(edited.base, Composition())) == "Paris"


def _answer(edited: Any) -> str:
    return generate_answers(edited, [BOOK], max_new_tokens=8)[0].text
