"""Conflicts as data: found from both sides alike, and settled by a choice."""

import pytest

from mlflow_edit.core.conflicts import (
    CHOICES,
    Conflict,
    conflict_id,
    contradictions,
    danglings,
    modify_deletes,
    settled,
    side,
)
from mlflow_edit.core.content import Content
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.manifest import BatchRef, Exclusion

A, B, C = "a" * 64, "b" * 64, "c" * 64


def edit(name: str, prompt: str, target: str, *rephrases: str) -> Edit:
    return Edit(id=name, prompt=prompt, target=target, rephrases=rephrases)


def content(*batches: str, out: tuple[Exclusion, ...] = ()) -> Content:
    refs = [
        BatchRef(digest=d, editor="grace", kind="codebook", n_edits=2, bytes=1, run_id="r")
        for d in batches
    ]
    return Content.closed(refs, out)


def test_one_prompt_with_two_targets_is_a_contradiction_from_both_sides() -> None:
    ours = [((A, "x"), edit("x", "Who won?", "Ada"))]
    theirs = [((B, "y"), edit("y", " who  WON? ", "Bo"))]
    [found], [back] = list(contradictions(ours, theirs)), list(contradictions(theirs, ours))
    assert (found.kind, found.blocking, found.same_prompt) == ("contradiction", True, True)
    assert found.ours is not None
    assert found.theirs is not None
    assert (found.ours.edit, found.theirs.edit) == ("x", "y")
    assert (back.id, back.ours, back.theirs) == (found.id, found.theirs, found.ours)
    assert found.choices == ("ours", "theirs", "drop")


def test_a_rephrase_contradicts_the_prompt_it_is() -> None:
    ours = [((A, "x"), edit("x", "Who won?", "Ada", "Who came first?"))]
    theirs = [((B, "y"), edit("y", "Who came first?", "Bo"))]
    [found] = contradictions(ours, theirs)
    assert not found.same_prompt
    assert "both" in found.choices
    assert [c.id for c in contradictions(theirs, ours)] == [found.id]


def test_agreement_and_two_rephrases_are_none() -> None:
    ours = [((A, "x"), edit("x", "Who won?", "Ada", "Who?"))]
    assert not list(contradictions(ours, [((B, "y"), edit("y", "Who won?", " ada"))]))
    assert not list(contradictions(ours, [((B, "y"), edit("y", "Who lost?", "Bo", "Who?"))]))


def test_how_a_question_ends_makes_no_other_question_of_it() -> None:
    ours = [((A, "x"), edit("x", "Who won?", "Ada"))]
    [found] = contradictions(ours, [((B, "y"), edit("y", "who won", "Bo"))])
    assert not found.same_prompt
    assert not list(contradictions([((A, "x"), edit("x", "?", "Ada"))], ours))


def test_one_side_takes_out_what_the_other_replaces() -> None:
    replaced = Exclusion(batch=A, edit="x", reason="superseded", by=B, by_edit="y")
    base, modifier, deleter = content(A), content(A, B, out=(replaced,)), content()
    edits = {(A, "x"): edit("x", "Who?", "Ada"), (B, "y"): edit("y", "Who?", "Bo")}
    [found] = modify_deletes([base], deleter, modifier, edits)
    [back] = modify_deletes([base], modifier, deleter, edits)
    assert found.id == back.id
    assert found.theirs is not None
    assert found.ours is None
    assert (found.theirs.target, found.base.target if found.base else "") == ("Bo", "Ada")
    assert settled(found, "theirs") == []
    assert settled(found, "ours") == [Exclusion(batch=B, edit="y", reason="reverted")]
    assert not list(modify_deletes([base], base, modifier, edits))


def test_an_edit_that_only_the_merge_brings_back_is_told() -> None:
    by_b = Exclusion(batch=A, edit="x", reason="superseded", by=B, by_edit="y")
    by_c = Exclusion(batch=A, edit="x", reason="superseded", by=C, by_edit="z")
    ours, theirs = content(A, B, out=(by_b,)), content(A, C, out=(by_c,))
    edits = {(A, "x"): edit("x", "Who?", "Ada")}
    [found] = danglings(ours, theirs, content(A), edits)
    assert (found.kind, found.blocking, found.choices) == ("dangling", False, ("accept", "drop"))
    assert settled(found, "accept") == []
    assert settled(found, "drop") == [Exclusion(batch=A, edit="x", reason="reverted")]
    assert not list(danglings(ours, theirs, content(A, B, C, out=(by_b, by_c)), edits))
    assert not list(danglings(content(A), theirs, content(A), edits))


@pytest.mark.parametrize(
    ("choice", "out"),
    [("ours", [(B, "y", A)]), ("theirs", [(A, "x", B)]), ("both", []),
     ("drop", [(A, "x", None), (B, "y", None)])],
)  # fmt: skip
def test_a_choice_leaves_out_the_loser(choice: str, out: list[tuple[str, str, str | None]]) -> None:
    conflict = Conflict(
        id=conflict_id("contradiction", 1), kind="contradiction", blocking=True, message="",
        ours=side(A, edit("x", "p", "1")), theirs=side(B, edit("y", "p", "2")),
    )  # fmt: skip
    found = settled(conflict, choice)  # type: ignore[arg-type]
    assert [(item.batch, item.edit, item.by) for item in found] == out


def test_ids_do_not_depend_on_the_order_of_sides() -> None:
    assert conflict_id("steal", [A, "x"], [B, "y"]) == conflict_id("steal", [B, "y"], [A, "x"])
    assert conflict_id("steal", [A, "x"]) != conflict_id("shadow", [A, "x"])
    assert set(CHOICES) < {*CHOICES, "base-mismatch", "tensor-overlap"}
