"""Thresholds, and the decisions that are taken on them."""

import pytest

from mlflow_edit.core.gate import Gate, GateResult, check_all, default_gate, parse_gate
from mlflow_edit.core.ledger import (
    MAX_ENTRY,
    Entry,
    MergeClosed,
    MergeOpened,
    MergeResolved,
    Move,
    Verdict,
    entry_text,
    gate_of,
    moves_of,
    open_merge,
    read_entry,
    resolutions_of,
    standing,
    verdicts_on,
)
from mlflow_edit.core.protection import gate_texts, objection
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError, InvalidInputError

A, B, C = "a" * 64, "b" * 64, "c" * 64
FACTS = {"at": "2026-01-02T03:04:05.000000Z", "who": "Ada", "nonce": "0123456789abcdef"}
CARD = Scorecard(reliability=0.9, locality=1.0, perplexity_ratio=1.01, n_probes={"locality": 20})


def move(to: str | None, previous: str | None, kind: str = "promotion", alias: str = "p") -> Move:
    return Move.model_validate(
        {"kind": kind, "alias": alias, "to": to, "previous": previous, **FACTS}
    )


@pytest.mark.parametrize(
    ("gate", "passed"),
    [
        ("min: {reliability: 0.9}", True),
        ("min: {reliability: 0.91}", False),
        ("min: {generality: 0}", False),
        ("max: {perplexity_ratio: 1.02}", True),
        ("max: {perplexity_ratio: 1.0}", False),
        ("not_worse: {reliability: 0.05}", True),
        ("not_worse: {reliability: 0.04}", False),
        ("not_worse: {perplexity_ratio: 0.01}", True),
        ("not_worse: {perplexity_ratio: 0.005}", False),
        ("not_worse: {generality: 0.1}", True),
        ("min_probes: {locality: 20}", True),
        ("min_probes: {locality: 21}", False),
        ("min_probes: {generality: 1}", False),
        ("{}", True),
        ("", True),
    ],
)
def test_thresholds(gate: str, passed: bool) -> None:
    current = Scorecard(reliability=0.95, perplexity_ratio=1.0)
    result = parse_gate(gate).check(CARD, current)
    assert result.passed is passed
    assert len(result.failures) == (not passed)


def test_without_a_holder_there_is_nothing_to_be_worse_than() -> None:
    gate = Gate(not_worse={"reliability": 0})
    assert gate.check(CARD, None).passed


@pytest.mark.parametrize(
    "text",
    ["min: {speed: 1}", "min: 1", "min: {reliability: .nan}", "nonsense: 1", "approved: false",
     "not_worse: {reliability: -1}", "- 1", "min: {reliability: high}", "a: &x 1\nb: *x", ": :",
     "min_probes: {locality: 0}", "approved: {quorum: 0}", "approved: {quorum: 11}",
     "approved: {reviewers: 2}"],
)  # fmt: skip
def test_a_malformed_gate_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="gate"):
        parse_gate(text)


def test_entries_come_back() -> None:
    gate = Gate(min={"reliability": 0.95}).check(CARD, None)
    entries: list[Entry] = [
        move(A, None), move(None, A, "rollback"),
        Move(kind="refusal", alias="p", to=B, gate=gate, note="no", **FACTS),
        Move(kind="promotion", alias="p", to=B, thresholds=Gate(min={"locality": 0.5}), **FACTS),
        Verdict(kind="approved", version=A, **FACTS),
        MergeOpened(kind="merge-opened", ours=A, theirs=B, **FACTS),
        MergeResolved(kind="merge-resolved", merge=5, conflict="c-1", choice="ours", **FACTS),
        MergeClosed(kind="merge-closed", merge=5, version=C, **FACTS),
    ]  # fmt: skip
    for entry in entries:
        assert read_entry(entry_text(entry), number=1) == entry


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"kind":"promotion"}', '{"kind":"x"}'])
def test_a_malformed_entry_is_damage(text: str) -> None:
    with pytest.raises(IntegrityError, match="entry 7"):
        read_entry(text, number=7)


def test_an_entry_that_cannot_be_kept_is_refused() -> None:
    gate = Gate(min=dict.fromkeys(sorted(["reliability"]), 0.5)).check(CARD, None)
    long = gate.model_copy(update={"checks": gate.checks * 200})
    with pytest.raises(InvalidInputError, match=f"{MAX_ENTRY:,}"):
        entry_text(Move(kind="promotion", alias="p", to=A, gate=long, **FACTS))


def test_the_gate_of_an_alias_is_the_last_one_it_was_held_against() -> None:
    first, last = Gate(min={"reliability": 0.5}), Gate(min={"reliability": 0.9})
    entries: dict[int, Entry] = {
        3: Move(kind="promotion", alias="p", to=A, **FACTS),
        2: Move(kind="refusal", alias="p", to=A, thresholds=last, **FACTS),
        1: Move(kind="promotion", alias="p", to=A, thresholds=first, **FACTS),
        4: Move(kind="promotion", alias="other", to=A, thresholds=first, **FACTS),
    }
    assert gate_of(entries, "p") == last
    assert gate_of(entries, "nothing") is None


def test_the_default_gate_asks_for_what_was_measured_and_for_retention() -> None:
    assert default_gate(Scorecard()).min == {"retention": 0.9}
    assert not default_gate(Scorecard()).check(Scorecard(), None).passed
    card = Scorecard(retention=0.95, locality=0.94, perplexity_ratio=1.0)
    result = default_gate(card).check(card, None)
    assert [(check.name, check.passed) for check in result.checks] == [
        ("retention >= 0.9", True), ("locality >= 0.95", False), ("perplexity_ratio <= 1.05", True),
    ]  # fmt: skip


def test_the_stack_of_an_alias() -> None:
    moves = [move(A, None), move(B, A), move(C, B)]
    assert standing(moves) == [A, B, C]
    assert standing([*moves, move(B, C, "rollback")]) == [A, B]
    assert standing([*moves, move(B, C, "rollback"), move(A, B, "rollback")]) == [A]
    assert standing([move(A, None), move(C, B)]) == [A, B, C]  # somebody had moved it to B
    assert standing([move(A, None), move(B, A), move(B, B)]) == [A, B]
    assert standing([]) == []


def test_reading_the_ledger() -> None:
    entries: dict[int, Entry] = {
        1: move(A, None), 2: move(B, A, alias="q"),
        3: move(B, A, "refusal"),
        4: Verdict(kind="approved", version=A, **FACTS),
        5: Verdict(kind="rejected", version=A, **FACTS),
        6: MergeOpened(kind="merge-opened", ours=A, theirs=B, **FACTS),
        7: MergeResolved(kind="merge-resolved", merge=6, conflict="c-1", choice="ours", **FACTS),
        8: MergeResolved(kind="merge-resolved", merge=6, conflict="c-1", choice="drop", **FACTS),
    }  # fmt: skip
    assert moves_of(entries, "p") == [entries[1]]
    assert verdicts_on(entries, A) == {FACTS["who"]: False}
    assert verdicts_on(entries, B) == {}
    assert open_merge(entries) == 6
    assert resolutions_of(entries, 6) == {"c-1": "drop"}
    entries[9] = MergeClosed(kind="merge-closed", merge=6, **FACTS)
    assert open_merge(entries) is None


def test_several_gates_are_one() -> None:
    gates = [
        parse_gate("min: {reliability: 0.5}"),
        parse_gate("min: {reliability: 0.5, retention: 1}"),
    ]
    result = check_all(gates, CARD, None)
    assert [check.name for check in result.checks] == ["reliability >= 0.5", "retention >= 1"]
    assert ([c.name for c in result.failures], result.passed) == (["retention >= 1"], False)
    assert check_all(gates[:1], CARD, None).passed
    assert gates[1].said() == ["reliability >= 0.5", "retention >= 1"]


def test_gates_are_tags_of_a_model() -> None:
    tags = {"mledit.gate.production": "{}", "mledit.model": "1", "mledit.gate.": "{}"}
    assert gate_texts(tags) == {"production": "{}", "": "{}"}


@pytest.mark.parametrize(
    ("moves", "held", "gate", "said"),
    [
        ([], True, "", "the last decision in the ledger is another one"),
        ([move(A, None), move(B, A)], True, "", "the last decision in the ledger is another one"),
        ([move(A, None, alias="q")], True, "", "the last decision in the ledger is another one"),
        ([move(A, None)], False, "", None),
        ([move(A, None)], True, "min: {reliability: 1}", "reliability >= 1: 0.9"),
        ([move(A, None), move(A, B, "rollback")], True, "min: {reliability: 1}", None),
        ([move(A, None), move(A, B, "rollback")], False, "",
         "it never held the alias, so it cannot be rolled back to"),
        ([move(A, None), move(B, A, "refusal")], False, "", None),
    ],
)  # fmt: skip
def test_who_may_hold_a_protected_alias(
    moves: list[Move], held: bool, gate: str, said: str | None
) -> None:
    def judge() -> GateResult:
        return parse_gate(gate).check(CARD, None)

    entries = dict(enumerate(moves, start=1))
    assert objection("p", A, entries=entries, held=held, judge=judge) == said


def test_where_nobody_was_asked_nothing_is_approved() -> None:
    (check,) = Gate(approved=True).check(CARD, None).checks
    assert (check.passed, check.said) == (False, "nobody was asked")
    assert Gate(approved=True).check(CARD, None, opinions=()).passed  # asked about no change
