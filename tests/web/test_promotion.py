"""Verdicts, promotions and rollbacks from the pages: first looked at, then done and recorded."""

import re
from typing import Any

import pytest

from mlflow_edit import promote
from mlflow_edit.core.ledger import Move, Verdict
from mlflow_edit.web.access import Permission
from web.conftest import Bench

HOSTILE = "<script>alert(1)</script>\u202e'\">"


@pytest.fixture
def bench(lived_in: Bench) -> Bench:
    """Version 2 holds production, which version 1 held before."""
    return lived_in


def last(bench: Bench) -> Any:
    """Return the last entry of the ledger."""
    return list(bench.registry.ledger("m").values())[-1]


def holder(bench: Bench, alias: str) -> int | None:
    return next((v.version for v in bench.registry.versions("m") if alias in v.aliases), None)


@pytest.mark.parametrize(("verb", "kind"), [("approve", "approved"), ("reject", "rejected")])
def test_a_verdict_is_recorded_under_the_name_of_who_signed_in(
    bench: Bench, verb: str, kind: str
) -> None:
    answer = bench.post(f"/{verb}", note="As agreed.", author="eve", user="eve")
    assert answer.location == "/mledit/version?name=m&version=2&entry=3"
    entry = last(bench)
    assert isinstance(entry, Verdict)
    assert (entry.kind, entry.who, entry.note) == (kind, "ada", "As agreed.")
    text = bench.follow(answer).text
    assert f"Version 2 was {kind} by ada: As agreed." in text


@pytest.mark.parametrize("entry", ["9" * 5000, "0", "-1", "²", "x"])
def test_a_link_to_what_the_ledger_does_not_say_says_nothing(bench: Bench, entry: str) -> None:
    assert bench.get("/version", name="m", entry=entry).status_code == 200


def test_a_promotion_shows_the_checks_and_who_holds_the_alias_first(bench: Bench) -> None:
    gate = "min:\n  reliability: 0.4\nmax:\n  perplexity_ratio: 1.05\n"
    before = bench.registry.ledger("m")
    answer = bench.post("/promote", alias="production", gate=gate, confirmed=None)
    assert answer.status_code == 200
    assert re.search(r'class="good">met</td>\s*<th scope="row">reliability &gt;= 0.4', answer.text)
    assert re.search(r'class="bad">not met</td>\s*<th scope="row">perplexity_ratio', answer.text)
    assert "The gate refuses it" in answer.text
    assert 'name="confirmed"' not in answer.text
    assert bench.registry.ledger("m") == before


def test_a_promotion_is_confirmed_for_the_holder_that_was_shown(bench: Bench) -> None:
    shown = bench.post("/promote", alias="production", note="why", confirmed=None, holder=None,
                       query={"version": "1"}, digest=bench.root.digest)  # fmt: skip
    assert "production is version 2 now" in shown.text
    assert "There is no gate" in shown.text
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', shown.text))
    assert fields["holder"] == "2"
    del fields["csrf"]
    answer = bench.send("/promote", {"version": "1"}, note="why", **fields)
    assert "production points at version 1, before that at version 2; moved by ada." in (
        bench.follow(answer).text
    )
    entry = last(bench)
    assert isinstance(entry, Move)
    assert (entry.kind, entry.who, entry.note) == ("promotion", "ada", "why")
    assert holder(bench, "production") == 1


@pytest.mark.parametrize("path", ["/promote", "/rollback"])
def test_an_alias_that_somebody_moved_meanwhile_is_left_alone(bench: Bench, path: str) -> None:
    promote("m@1", to="production", author="Bob", registry=bench.registry)
    before = bench.registry.ledger("m")
    answer = bench.post(path, alias="production", holder="2")
    assert answer.status_code == 409
    assert "held by version 1, not by 2" in answer.text
    assert bench.registry.ledger("m") == before
    assert holder(bench, "production") == 1


def test_a_gate_that_is_not_met_refuses_and_says_why(bench: Bench) -> None:
    answer = bench.post("/promote", gate="min:\n  reliability: 0.9\n")
    assert answer.status_code == 422
    assert "reliability &gt;= 0.9: 0.5" in answer.text
    assert (last(bench).kind, last(bench).who) == ("refusal", "ada")
    assert holder(bench, "staging") is None


def test_what_a_form_sends_back_is_what_was_sent(bench: Bench) -> None:
    note, gate = "a\u202eb", "min:\r\n  reliability: 0.4\r\n"
    shown = bench.post("/promote", gate=gate, note=note, confirmed=None).text
    assert 'name="gate" value="min:\n  reliability: 0.4\n"' in shown
    assert f">{note}</textarea>" in shown


def test_a_rollback_says_where_the_alias_goes_first(bench: Bench) -> None:
    shown = bench.post("/rollback", confirmed=None, holder=None)
    assert "Roll production back to version 1?" in shown.text
    assert holder(bench, "production") == 2
    answer = bench.post("/rollback", note="Complaints")
    assert answer.location == "/mledit/version?name=m&version=1&entry=3"
    assert "production points at version 1 again" in bench.follow(answer).text
    assert (last(bench).kind, last(bench).who, last(bench).note) == (
        "rollback",
        "ada",
        "Complaints",
    )
    assert bench.post("/rollback", holder="1").status_code == 404


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/approve", {"note": "x" * 1001}, 400),
        ("/approve", {"note": "\x00"}, 400),
        ("/promote", {"alias": HOSTILE}, 400),
        ("/promote", {"alias": "head"}, 400),
        ("/promote", {"alias": None}, 400),
        ("/promote", {"gate": "min: {nothing: 1}"}, 400),
        ("/promote", {"gate": "a: &a [*a, *a]"}, 400),
        ("/promote", {"gate": f"min: {{'{HOSTILE}': 1}}"}, 400),
        ("/promote", {"holder": HOSTILE}, 400),
        ("/promote", {"holder": "9"}, 404),
        ("/promote", {"holder": None}, 400),
        ("/rollback", {"alias": HOSTILE}, 400),
        ("/rollback", {"alias": "staging", "holder": "none"}, 404),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_done(
    bench: Bench, path: str, fields: dict[str, Any], status: int
) -> None:
    before = bench.registry.ledger("m")
    answer = bench.post(path, **fields)
    assert answer.status_code == status
    assert "<script>alert" not in answer.text
    assert "Traceback" not in answer.text
    assert bench.registry.ledger("m") == before


def test_hostile_notes_are_shown_as_text(bench: Bench) -> None:
    bench.post("/approve", note=HOSTILE)
    bench.access.name = HOSTILE
    text = bench.follow(bench.post("/reject", note=HOSTILE)).text
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;‹U+202E›") >= 3  # who, and why


@pytest.mark.parametrize("path", ["/promote", "/rollback"])
@pytest.mark.parametrize("holder", ["secret@9", "nothere@1", "production", "", "-1", "²"])
def test_who_holds_an_alias_is_a_version_of_this_model(
    bench: Bench, path: str, holder: str
) -> None:
    answer = bench.post(path, alias="production", holder=holder)
    assert answer.status_code == 400
    assert "a version of this model" in answer.text


def test_who_may_only_read_is_shown_no_forms_that_change_something(bench: Bench) -> None:
    assert bench.get("/version", name="m").text.count('method="post"') == 4
    bench.access.granted["m"] = {Permission.READ}
    text = bench.get("/version", name="m").text
    assert 'method="post"' not in text
    assert "Ask version 2" in text


@pytest.mark.parametrize("entry", ["99", "-1", "x", "", "1" * 50, "²"])
def test_a_link_cannot_make_the_page_say_what_was_not_done(bench: Bench, entry: str) -> None:
    answer = bench.get("/version", name="m", entry=entry)
    assert answer.status_code == 200
    assert 'class="done"' not in answer.text
