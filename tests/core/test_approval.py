"""What it takes for a change to be approved."""

import pytest

from mlflow_edit.core.approval import (
    Answered,
    Approvals,
    Change,
    Opinion,
    names_of,
    opinion_on,
    persons,
    summary_of,
)
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.gate import Gate, parse_gate
from mlflow_edit.core.scorecard import Scorecard

ADA, BOB, CYD = "Ada Byron <ada@example.org>", "bob", "Cyd <cyd@example.org>"
CHANGE = Change("new", "a" * 64, Edit(id="e1", prompt="Who?", target="Ada"))


def said(
    asked: Answered | None, verdicts: dict[str, bool] | None = None, **demanded: object
) -> str:
    return Approvals.model_validate(demanded).lacks(opinion_on(CHANGE, ADA, asked, verdicts or {}))


@pytest.mark.parametrize(
    ("complete", "answers", "lacks"),
    [
        (True, {BOB: True}, ""),
        (True, {BOB: True, CYD: True}, ""),
        (False, {BOB: True}, "not marked complete"),
        (True, {}, "no answer"),
        (False, {}, "no answer"),
        (True, {BOB: False}, "rejected by bob"),
        (False, {BOB: False}, "rejected by bob"),
        (True, {BOB: True, CYD: False}, f"rejected by {CYD}"),
    ],
)
def test_a_queue_needs_a_complete_item_and_no_latest_no(
    complete: bool, answers: dict[str, bool], lacks: str
) -> None:
    assert said(Answered(complete=complete, answers=answers)) == lacks


def test_a_verdict_on_the_version_counts_for_every_change() -> None:
    waiting = Answered(complete=False, answers={})
    assert said(None) == "not in a review queue"
    assert said(None, {BOB: True}) == said(waiting, {BOB: True}) == ""
    assert said(Answered(complete=True, answers={CYD: True}), {BOB: False}) == "rejected by bob"
    assert said(Answered(complete=True, answers={BOB: False}), {BOB: True}) == "rejected by bob"


def test_a_quorum_is_of_persons() -> None:
    asked = Answered(complete=True, answers={BOB: True, "ada": True})
    assert said(asked, quorum=2) == ""
    assert said(asked, {ADA: True}, quorum=3) == "approved by 2 of 3 reviewers"
    assert said(asked, {CYD: True}, quorum=3) == ""


def test_authors_do_not_approve_their_own_changes() -> None:
    asked = Answered(complete=True, answers={"ada": True})
    assert said(asked) == ""
    assert said(asked, not_author=True) == "approved by 0 of 1 reviewers other than its author"
    assert said(asked, {BOB: True}, not_author=True) == ""


@pytest.mark.parametrize(
    ("who", "names"),
    [
        (ADA, {"ada byron", "ada@example.org", "ada"}),
        ("ADA@example.org", {"ada@example.org", "ada"}),
        ("bob", {"bob"}),
        ("<ada@example.org>", {"ada@example.org", "ada"}),
        ("", set()),
    ],
)
def test_names_of_a_person(who: str, names: set[str]) -> None:
    assert names_of(who) == names


def test_persons_who_share_a_name_are_one() -> None:
    assert len(persons([ADA, "ada", "ADA@example.org", BOB])) == 2
    assert len(persons(["cyd", "x <cyd@a.org>", "x"])) == 1
    assert persons(["", " ", "<>"]) == [], "who has no name is nobody"


def test_questions_are_named_by_what_is_asked() -> None:
    first = CHANGE.question("v1", "base")
    assert len(first) == 32
    assert int(first, 16)
    others = [CHANGE.question("v2", "base"), CHANGE.question("v1", "other")]
    others += [Change("taken-out", CHANGE.digest, CHANGE.edit).question("v1", "base")]
    assert len({first, *others}) == 4
    assert CHANGE.question("v1", "base") == first


def test_a_gate_counts_changes_and_names_a_few() -> None:
    opinions = [Opinion(f"e{i}", ADA, (BOB,) if i == 2 else (), ()) for i in range(6)]
    (check,) = Gate(approved=True).check(Scorecard(), None, opinions=opinions).checks
    assert not check.passed
    told = "e0: no answer; e1: no answer; e3: no answer; and 2 more"
    assert check.said == f"1 of 6 changes; {told}"
    assert Gate(approved=True).check(Scorecard(), None, opinions=opinions[2:3]).passed
    assert len(summary_of([("e" * 200, "x" * 500)] * 9)) < 700


def test_what_is_asked_of_reviewers_only_grows() -> None:
    gate = parse_gate("approved: {quorum: 2}")
    assert gate.approvals == Approvals(quorum=2)
    assert gate.asking(quorum=1, not_author=True).approvals == Approvals(quorum=2, not_author=True)
    assert Gate().asking(quorum=3, not_author=False).approvals == Approvals(quorum=3)
    assert parse_gate("min: {locality: 1}").approvals is None
