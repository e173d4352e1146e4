"""Delta debugging, and differences of edits."""

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import given

from mlflow_edit.core.delta_debugging import Outcome, smallest_bad
from mlflow_edit.core.diff import diff_edits, diff_scorecards
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.scorecard import Scorecard

A, B = "a" * 64, "b" * 64


@given(st.integers(1, 40), st.sets(st.integers(0, 39), min_size=1, max_size=4))
def test_the_culprits_are_found_and_no_more(n: int, culprits: set[int]) -> None:
    culprits = {i % n for i in culprits}
    asked: list[tuple[int, ...]] = []

    def outcome(some: Sequence[int]) -> Outcome:
        asked.append(tuple(some))
        return "bad" if culprits <= set(some) else "good"

    assert set(smallest_bad(range(n), outcome)) == culprits
    assert len(asked) == len(set(asked))


def test_one_culprit_of_many_takes_few_tests() -> None:
    asked = []

    def outcome(some: Sequence[int]) -> Outcome:
        asked.append(some)
        return "bad" if 700 in some else "good"

    assert smallest_bad(range(1024), outcome) == [700]
    assert len(asked) <= 2 * 10


@given(st.integers(2, 20), st.data())
def test_what_cannot_be_judged_still_leaves_something_bad(n: int, data: st.DataObject) -> None:
    culprit, odd = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))

    def outcome(some: Sequence[int]) -> Outcome:
        if odd in some and len(some) < n:
            return "skip"
        return "bad" if culprit in some else "good"

    found = smallest_bad(range(n), outcome)
    assert outcome(found) == "bad"
    assert culprit in found


def edit(name: str, prompt: str, target: str) -> Edit:
    return Edit(id=name, prompt=prompt, target=target)


def test_edits_differ_by_prompt() -> None:
    old = {(A, "x"): edit("x", "Who?", "Ada"), (A, "y"): edit("y", "Where?", "Oslo")}
    new = {(B, "z"): edit("z", "who?", "Bo"), (B, "w"): edit("w", "When?", "1900")}
    found, back = diff_edits(old, new), diff_edits(new, old)
    assert [e.id for e in found.added] == ["w"]
    assert [e.id for e in found.removed] == ["y"]
    assert [(c.old.target, c.new.target) for c in found.changed] == [("Ada", "Bo")]
    assert (back.added, back.removed) == (found.removed, found.added)
    assert [(c.new, c.old) for c in back.changed] == [(c.old, c.new) for c in found.changed]


def test_scorecards_side_by_side() -> None:
    found = diff_scorecards(Scorecard(locality=1.0, retention=0.5), Scorecard(locality=1.0))
    assert [(row.metric, row.old, row.new) for row in found] == [("retention", 0.5, None)]
