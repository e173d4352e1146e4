"""The box that asks a version: both answers, and why."""

from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, FILM, scratch
from registry_fixtures import suite as suite
from registry_fixtures import suite_file as suite_file
from registry_fixtures import write_edits as write_edits

from mlflow_edit import apply
from mlflow_edit.operations.nearest import Candidate
from mlflow_edit.registry import pinned_base
from mlflow_edit.web.access import Permission
from mlflow_edit.web.jobs import Jobs
from web.conftest import Bench, make_bench


@pytest.fixture
def bench(bench: Bench, write_edits: Any, suite: Any) -> Bench:
    """Version 2 knows where the book is."""
    edits = write_edits({"prompt": BOOK, "target": "Tokyo", "note": "It was <moved>"})
    apply("m", [edits], author="Ada", suite=suite, message="Moved", registry=bench.registry)
    bench.token()
    return bench


def asked(bench: Bench, prompt: str) -> Any:
    return bench.follow(bench.get("/ask", name="m", version="2", prompt=prompt))


def test_both_answers_and_the_edit_that_gave_the_second(bench: Bench) -> None:
    text = asked(bench, BOOK).text
    assert "<blockquote>Tokyo</blockquote>" in text
    assert "Because of this edit" in text
    assert "It was &lt;moved&gt;" in text
    assert "distance" in text
    assert "version 2</a>" in text
    assert "by Ada" in text


def test_where_no_edit_answers_it_says_so_and_names_the_nearest(bench: Bench) -> None:
    text = asked(bench, FILM).text
    assert "No edit answers" in text
    assert "Nearest" in text
    assert "radii away" in text


def test_a_prompt_to_keep_is_not_shown_with_the_target_of_its_edit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Candidate(
        edit_id="e", batch="b" * 64, prompt="Kept?", target="Oslo", keeps=True,
        distance=0.5, radius=1.3, inside=False, match=0.1, said="related",
    )  # fmt: skip
    monkeypatch.setattr("mlflow_edit.operations.blame.nearest_edits", lambda *_, **__: [kept])
    text = asked(bench, FILM).text
    assert "the base model's answer" in text
    assert "Oslo" not in text.partition("Kept?")[2]


def test_a_link_from_elsewhere_fills_in_the_question_and_asks_nothing(bench: Bench) -> None:
    bench.client.delete_cookie("mledit-session", path="/mledit")
    answer = bench.get("/ask", name="m", version="2", prompt="<b>Why?</b>")
    assert answer.status_code == 200
    assert "&lt;b&gt;Why?&lt;/b&gt;</textarea>" in answer.text
    assert bench.jobs() == []
    assert bench.client.get_cookie("mledit-session", path="/mledit") is not None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_cannot_make_a_browser_ask(bench: Bench, site: str) -> None:
    query = {"name": "m", "prompt": BOOK}
    answer = bench.client.get("/mledit/ask", query_string=query, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 200
    assert bench.jobs() == []


def test_who_may_read_may_ask(bench: Bench) -> None:
    bench.access.granted["m"] = {Permission.READ}
    assert "<blockquote>Tokyo</blockquote>" in asked(bench, BOOK).text


def test_an_answer_is_shown_to_who_asked_only(bench: Bench) -> None:
    answer = bench.get("/ask", name="m", version="2", prompt=BOOK)
    bench.follow(answer)
    bench.access.name = "eve"
    assert bench.client.get(answer.location).status_code == 404


@pytest.mark.parametrize(("prompt", "status"), [("x" * 4001, 400), ("book " * 700, 400)])
def test_a_question_that_is_too_long_is_refused(bench: Bench, prompt: str, status: int) -> None:
    answer = bench.get("/ask", name="m", version="2", prompt=prompt)
    answer = bench.follow(answer) if answer.status_code == 303 else answer
    assert answer.status_code == status


def test_the_base_model_is_loaded_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = pinned_base.load_base
    monkeypatch.setattr(pinned_base, "load_base", lambda *a, **k: loads.append(a) or load(*a, **k))
    answers = [asked(bench, prompt).text for prompt in (BOOK, FILM, BOOK)]
    assert len(loads) == 1
    assert ["Because of this edit" in text for text in answers] == [True, False, True]


def test_a_server_may_load_no_models(chat_folder: Path) -> None:
    bench = make_bench(chat_folder, jobs=Jobs(scratch() / "jobs" / "none", n_models=0))
    bench.token()
    answer = bench.get("/ask", name="m", prompt=BOOK)
    assert answer.status_code == 200
    assert "MLEDIT_UI_MODELS=0" in answer.text
    assert bench.jobs() == []


def test_a_model_that_cannot_be_loaded_is_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*args: Any, **options: Any) -> Any:
        raise ImportError("No module named 'torch'", name="torch")

    monkeypatch.setattr(pinned_base, "load_base", lacking)
    answer = asked(bench, BOOK)
    assert answer.status_code == 503
    assert "it lacks torch" in answer.text
