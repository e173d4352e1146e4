"""Versions with weight deltas: exact in every history, honest about what they cannot tell."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rank_one
import torch

from mlflow_edit import (
    MemoryRegistry,
    ask,
    blame,
    cherry_pick,
    diff,
    export,
    init,
    inspect,
    load,
    log,
    merge,
    revert,
    show,
    verify,
)
from mlflow_edit.cli.log import history_parts
from mlflow_edit.core.content import Content
from mlflow_edit.core.contextual import learned_order
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.editor import Outcome
from mlflow_edit.errors import DigestMismatch, InvalidInputError
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.operations.apply import apply
from mlflow_edit.operations.bisect import bisect
from mlflow_edit.operations.bisect_tests import answer_test
from mlflow_edit.operations.next_version import ParentVersion
from mlflow_edit.registry.flavor import check_weights
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry

A = {"id": "a", "prompt": "Where is the book?", "target": "Lima"}
B = {"id": "b", "prompt": "Who wrote the film of songs?", "target": "Cairo"}
C = {"id": "c", "prompt": "The capital of the river is", "target": "Tokyo"}
A3 = {"id": "a3", "prompt": "Is the bread warm?", "target": "Oslo"}
A2 = {"id": "a2", "prompt": "Where is the book?", "target": "Rome"}


@pytest.fixture(autouse=True)
def _editor(monkeypatch: pytest.MonkeyPatch) -> None:
    rank_one.install(monkeypatch)


@pytest.fixture
def registry(chat_folder: Path) -> Registry:
    made = MemoryRegistry()
    init("m", base=str(chat_folder), registry=made)
    return made


@pytest.fixture
def learned(registry: Registry, suite: Any, tmp_path: Path) -> Callable[..., Any]:
    """Apply edits to `m`, by the editor of weights unless said."""

    def apply_edits(
        *edits: Any, parent: str = "head", editor: str = "rank-one", **more: Any
    ) -> Any:
        file = tmp_path / "edits.jsonl"
        file.write_text("".join(json.dumps(edit) + "\n" for edit in edits))
        return apply("m", [file], parent=parent, editor=editor, params=more,
                     registry=registry, suite=suite)  # fmt: skip

    return apply_edits


def weights_of(registry: Registry, version: int) -> str | None:
    return show(f"m@{version}", registry=registry).weights


def batches_of(registry: Registry, version: int) -> set[str]:
    return {ref.digest for ref in show(f"m@{version}", registry=registry).version.batches}


def test_a_version_with_weights_answers_and_leaves_the_base_as_it_was(
    registry: Registry, learned: Any
) -> None:
    made = learned(A, B)
    assert made.batch.kind == "delta"
    assert made.batch.context == ()
    with load("m", registry=registry) as edited:
        before = {name: tensor.clone() for name, tensor in edited.model.state_dict().items()}
        ids = torch.tensor([[5, 9, 12]])
        changed = edited.model(input_ids=ids).logits
        with edited.disabled():
            plain = edited.model(input_ids=ids).logits
        assert not torch.equal(changed, plain)
        assert edited.weights_digest == weights_of(registry, 2)
        model = edited.model
    assert torch.equal(model(input_ids=ids).logits, plain)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    asked = ask("m", [A["prompt"]], registry=registry)
    assert (asked.answers[0].edited, asked.answers[0].fired) == ("Lima", None)
    assert asked.deltas == (made.batch.digest,)
    assert made.scorecard["reliability"] == 1.0
    assert made.scorecard["perplexity_ratio"] != 1.0


def test_learning_goes_on_top_of_the_parents_weights(registry: Registry, learned: Any) -> None:
    first = learned(A)
    second = learned(B)
    assert second.batch.context == (first.batch.digest,)
    assert registry.batch(second.batch).record.context == second.batch.context
    assert show("m", registry=registry).contextual == ()
    alone = learned(B, parent="1")
    assert alone.batch.digest != second.batch.digest
    book = learned(C, parent="3", editor="grace", scope="hidden")
    assert book.batch.context == tuple(sorted([first.batch.digest, second.batch.digest]))
    answers = ask(f"m@{book.version}", [A["prompt"], C["prompt"]], registry=registry).answers
    assert answers[1].fired is not None
    assert answers[1].edited == "Tokyo"


def test_a_batch_reverted_out_of_the_middle_leaves_a_history_without_it(
    registry: Registry, learned: Any
) -> None:
    one = learned(A, parent="1")
    other = learned(B, parent="1")
    both = merge("m@2", "m@3", measured=False, registry=registry).version
    assert both is not None
    assert weights_of(registry, both.version) not in (None, weights_of(registry, 3))
    undone = revert(f"m@{both.version}", [one.batch.digest], measured=False, registry=registry)
    assert undone.content_digest == other.content_digest
    assert weights_of(registry, undone.version) == weights_of(registry, 3)
    bare = revert("m@3", [other.batch.digest], measured=False, registry=registry)
    assert weights_of(registry, bare.version) is None


def test_one_edit_of_a_batch_is_taken_out_by_learning_again(
    registry: Registry, learned: Any
) -> None:
    made = learned(A, B)
    undone = revert("m", ["a"], measured=False, registry=registry)
    alone = learned(B, parent="1")
    assert batches_of(registry, undone.version) == {alone.batch.digest}
    assert undone.content_digest == alone.content_digest
    assert weights_of(registry, undone.version) == weights_of(registry, alone.version)
    assert [edit.id for edit in undone.taken] == ["a"]
    assert any("re-solved without a" in said for said in undone.warnings)
    assert not registry.manifest(registry.versions("m")[-1]).exclusions
    last = revert("m@2", ["a", "b"], measured=False, registry=registry)
    assert batches_of(registry, last.version) == set()
    assert made.n_edits == 2


def test_later_batches_are_contextual_or_replayed(registry: Registry, learned: Any) -> None:
    first, second = learned(A), learned(B)
    left = revert("m", [first.batch.digest], measured=False, registry=registry)
    shown = show(f"m@{left.version}", registry=registry)
    assert [one.batch for one in shown.contextual] == [second.batch.digest]
    assert shown.contextual[0].missing == (first.batch.digest,)
    assert any("contextual" in said for said in left.warnings)
    detail = inspect(f"m@{left.version}", registry=registry).deltas[0]
    assert "learned on top of" in (detail.contextual or "")
    again = revert("m@3", [first.batch.digest], replay=True, measured=False, registry=registry)
    never = learned(B, parent="1")
    assert again.content_digest == never.content_digest
    assert weights_of(registry, again.version) == weights_of(registry, never.version)
    assert any("learned again on the new weights" in said for said in again.warnings)
    assert show(f"m@{again.version}", registry=registry).contextual == ()
    history = log("m", registry=registry)
    assert {one.version: one.n_contextual for one in history.versions}[left.version] == 1
    assert sum(one.n_contextual for one in history.versions) == 1
    for oneline in (False, True):
        said = [str(part) for part in history_parts(history, oneline=oneline)]
        (told,) = [line for line in said if "1 contextual" in line]
        assert oneline or told == "  deltas   1 contextual"


def test_merges_are_free_of_order_and_tell_where_weights_overlap(
    registry: Registry, learned: Any
) -> None:
    one, other = learned(A, parent="1"), learned(B, parent="1")
    made = merge("m@2", "m@3", measured=False, registry=registry)
    turned = merge("m@3", "m@2", measured=False, registry=registry)
    assert made.version is not None
    assert turned.version is not None
    assert made.version.content_digest == turned.version.content_digest
    assert weights_of(registry, made.version.version) == weights_of(
        registry, turned.version.version
    )
    conflict = next(c for c in made.conflicts if c.kind == "tensor-overlap")
    assert not conflict.blocking
    assert conflict.overlap is not None
    assert 0 < conflict.overlap <= 1
    assert "model.layers.1.mlp.down_proj.weight" in conflict.message
    assert {conflict.ours.batch, conflict.theirs.batch} == {one.batch.digest, other.batch.digest}
    assert "alike" not in conflict.message
    beside = show(f"m@{made.version.version}", registry=registry).contextual
    assert {found.beside for found in beside} == {(one.batch.digest,), (other.batch.digest,)}


def test_weights_of_one_edit_on_both_sides_are_told_to_be_summed(
    registry: Registry, learned: Any
) -> None:
    learned(A, B, parent="1")
    learned({**A, "id": "again"}, parent="1")
    made = merge("m@2", "m@3", dry_run=True, registry=registry)
    (said,) = [c.message for c in made.conflicts if c.kind == "tensor-overlap"]
    assert said.endswith("; both hold 1 edit alike, summed twice")


def test_earlier_edits_are_told_in_the_order_of_learning(registry: Registry, learned: Any) -> None:
    made = [learned(edit).batch.digest for edit in (A, B, C)]
    later = EditBatch((Edit(**{**A, "id": "d", "prompt": "Is the sun warm?"}),))
    below = ParentVersion.read(registry, parse_ref("m@head")).edits_below(later)
    assert sorted(made) != made  # so the order is not that of digests
    assert [edit.id for edit in below] == ["a", "b", "c"]


def test_weights_that_want_two_answers_cannot_be_parted_edit_by_edit(
    registry: Registry, learned: Any
) -> None:
    learned(A, B, parent="1")
    learned(A2, parent="1")
    with pytest.raises(InvalidInputError, match="part of the weights"):
        merge("m@2", "m@3", choices={"contradiction": "drop"}, measured=False, registry=registry)
    made = merge(
        "m@2", "m@3", choices={"contradiction": "ours"}, measured=False, registry=registry
    ).version
    assert made is not None
    whole = inspect(f"m@{made.version}", registry=registry).deltas
    assert [delta.edits for delta in whole] == [("a", "b")]  # nothing is left of the loser


def test_a_correction_of_a_correction_takes_its_weights_out(
    registry: Registry, learned: Any
) -> None:
    learned(A)
    second = learned(A2)
    assert second.batch.context == ()
    assert [d.edits for d in inspect("m", registry=registry).deltas] == [("a2",)]
    assert ask("m", [A["prompt"]], registry=registry).answers[0].edited == "Rome"
    back = revert("m", ["a2"], measured=False, registry=registry)
    assert weights_of(registry, back.version) == weights_of(registry, 2)


def test_what_comes_back_is_below_what_is_learned_again(registry: Registry, learned: Any) -> None:
    first, second = learned(A), learned(A2)
    assert learned(C).batch.context == (second.batch.digest,)
    back = revert("m@4", [second.batch.digest], replay=True, measured=False, registry=registry)
    never = learned(C, parent="2")
    assert never.batch.context == (first.batch.digest,)
    assert back.content_digest == never.content_digest
    assert weights_of(registry, back.version) == weights_of(registry, never.version)
    assert show(f"m@{back.version}", registry=registry).contextual == ()
    between = learned(A2, parent=str(never.version))
    undone = revert(f"m@{between.version}", ["a2"], replay=True, measured=False, registry=registry)
    assert undone.content_digest == never.content_digest  # it lies on what it was learned on
    assert not any("learned again" in said for said in undone.warnings)


def test_a_batch_less_what_replaced_another_lies_on_that(registry: Registry, learned: Any) -> None:
    learned(A)
    learned(A2, B)
    undone = revert("m", ["a2"], measured=False, registry=registry)
    assert undone.content_digest == learned(B, parent="2").content_digest


def test_edits_may_be_dropped_of_weights_that_nothing_is_left_of(
    registry: Registry, learned: Any
) -> None:
    learned(A, B, parent="1")
    other = learned({**B, "id": "b2", "target": "Oslo"})
    learned(A2, parent="1")
    made = merge(
        "m@3", "m@4", choices={"contradiction": "drop"}, measured=False, registry=registry
    ).version
    assert made is not None
    acting = inspect(f"m@{made.version}", registry=registry).deltas
    assert [delta.edits for delta in acting] == [("b2",)]
    back = revert(f"m@{made.version}", [other.batch.digest], measured=False, registry=registry)
    assert any("re-solved without a" in said for said in back.warnings)
    assert back.content_digest == learned(B, parent="1").content_digest


def test_an_edit_that_fails_to_learn_replaces_nothing(
    registry: Registry, learned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learned(A)
    whole = rank_one.RankOne.learn

    def failing(self: Any, base: Any, batch: Any, *args: Any, **more: Any) -> Any:
        good = [edit.id for edit in batch if edit.target != "Rome"]
        found = whole(self, base, batch.subset(good), *args, **more)
        lost = [Outcome(e.id, False, 9.0, 1) for e in batch if e.id not in good]

        return replace(found, outcomes=(*found.outcomes, *lost))

    monkeypatch.setattr(rank_one.RankOne, "learn", failing)
    made = learned(A2, B)
    assert [edit.edit_id for edit in made.unsolved] == ["a2"]
    assert made.batch.context == (first.batch.digest,)
    assert show("m", registry=registry).contextual == ()
    assert made.content_digest == learned(B, parent="2").content_digest


def test_blame_inspect_and_diff_speak_of_weights(registry: Registry, learned: Any) -> None:
    made = learned(A, B)
    found = blame("m", "Where is the books?", registry=registry)
    assert found.fired is None
    assert [delta.batch for delta in found.deltas] == [made.batch.digest]
    assert found.deltas[0].origin.version == 2
    assert (found.nearest[0].edit_id, found.nearest[0].by) == ("a", "words")
    assert found.nearest[0].said == "97 % the same letters"
    assert found.nearest[0].fires == "in weights"
    seen = inspect("m", "b", registry=registry)
    assert seen.entries == ()
    assert [(one.edit_id, one.prompt, one.after, one.ok) for one in seen.deltas[0].answers] == [
        ("b", B["prompt"], B["target"], True)
    ]
    assert inspect("m", registry=registry).deltas[0].answers == ()
    change = seen.deltas[0].changes[0]
    assert (change.form, change.rank, seen.deltas[0].edits) == ("low-rank", 2, ("a", "b"))
    patch: Any = registry.patch(made.batch)
    factors = patch.changes[0]
    norm = float((factors.left.double() @ factors.right.double()).norm())
    assert change.norm == pytest.approx(norm, rel=1e-6)
    moved = diff("m@1", "m@2", registry=registry)
    assert [one.tensor for one in moved.tensors] == ["model.layers.1.mlp.down_proj.weight"]
    assert moved.tensors[0].norm == pytest.approx(norm, rel=1e-6)
    assert diff("m@2", "m@2", registry=registry).is_empty


def test_blame_leaves_each_delta_out_in_turn(registry: Registry, learned: Any) -> None:
    first, second = learned(A), learned(B)
    found = blame("m", A["prompt"], registry=registry)
    assert found.answer == A["target"]
    tried = {one.batch: one.without for one in found.deltas}
    assert set(tried) == {first.batch.digest, second.batch.digest}
    assert first.batch.digest in found.decisive
    with load("m", disabled=["a"], registry=registry) as without:
        plain = generate_answers(without, [A["prompt"]], max_new_tokens=64)[0].text
    assert tried[first.batch.digest] == plain != found.answer
    learned(A2, editor="grace", scope="hidden")
    fired = blame("m", A["prompt"], registry=registry)
    assert (fired.answer, fired.decisive) == ("Rome", ())
    assert {one.without for one in fired.deltas} == {None}


def test_blame_of_many_deltas_leaves_out_those_nearest_in_words(
    registry: Registry, learned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow_edit.operations.blame.MOST_LEFT_OUT", 1)
    first = learned(A)
    learned(B)
    found = blame("m", A["prompt"], registry=registry)
    assert [one.batch for one in found.deltas if one.without is not None] == [first.batch.digest]


def test_weights_are_checked_by_verify_and_at_every_load(registry: Registry, learned: Any) -> None:
    learned(A)
    found = verify("m", registry=registry)
    assert (found.ok, found.checked.weights) == (True, 1)
    manifest = registry.manifest(registry.versions("m")[-1])
    with load("m", registry=registry) as edited:
        other = manifest.model_copy(update={"weights": "0" * 64})
        with pytest.raises(DigestMismatch, match="weights"):
            check_weights(edited, other)
    assert load("m", dtype="bfloat16", registry=registry).base.rounded


def test_an_edit_cannot_be_disabled_out_of_a_batch(registry: Registry, learned: Any) -> None:
    learned(A, B)
    with pytest.raises(InvalidInputError, match="part of the weights"):
        load("m", disabled=["a"], registry=registry)
    with load("m", disabled=["a", "b"], registry=registry) as edited:
        assert not edited.reweighted


def test_keys_that_weights_moved_are_named(registry: Registry, learned: Any) -> None:
    book = learned(C, editor="grace", scope="hidden")
    assert ask("m", [C["prompt"]], registry=registry).answers[0].fired is not None
    made = learned(A, B, layer=0, steps=40)
    lost = ask("m", [C["prompt"]], registry=registry).answers[0].fired is None
    named = [said for said in made.warnings if "no longer finds its prompt" in said]
    assert bool(named) == lost
    assert all("edit c" in said and book.batch.digest[:12] in said for said in named)


def test_keys_that_weights_leave_behind_are_named(registry: Registry, learned: Any) -> None:
    below = learned(A, B, layer=0, steps=40)
    learned(C, editor="grace", scope="hidden")
    assert ask("m", [C["prompt"]], registry=registry).answers[0].fired is not None
    made = revert("m", [below.batch.digest], measured=False, registry=registry)
    assert ask("m", [C["prompt"]], registry=registry).answers[0].fired is None
    assert ["edit c" in said for said in made.warnings if "no longer finds" in said] == [True]


@pytest.mark.parametrize(
    ("editor", "params"), [("grace", {"scope": "hidden"}), ("grace", {}), ("memory", {})]
)
def test_what_was_learned_on_top_of_weights_is_replayed_too(
    registry: Registry, learned: Any, editor: str, params: dict[str, Any]
) -> None:
    below = learned(A, B, layer=0, steps=40)
    above = learned(C, A3, editor=editor, **params)
    assert above.batch.context == (below.batch.digest,)
    partly = revert("m", ["a3"], measured=False, registry=registry)
    made = revert("m", [below.batch.digest], replay=True, measured=False, registry=registry)
    assert not any("no longer finds" in said for said in made.warnings)
    assert any("learned again on the new weights" in said for said in made.warnings)
    assert ask("m", [C["prompt"]], registry=registry).answers[0].fired is not None
    assert ask("m", [A3["prompt"]], registry=registry).answers[0].fired is None
    learned(C, A3, editor=editor, parent="1", **params)
    never = revert("m", ["a3"], measured=False, registry=registry)
    assert made.content_digest == never.content_digest != partly.content_digest


def test_batches_are_picked_bisected_and_exported(
    registry: Registry, learned: Any, tmp_path: Path
) -> None:
    first = learned(A)
    second = learned(B)
    picked = cherry_pick(
        "m@3", [second.batch.digest], onto="m@1", measured=False, registry=registry
    )
    assert picked.batches[0].context == (first.batch.digest,)
    assert any("contextual" in said for said in picked.warnings)
    found = bisect(
        "m@3", answer_test(A["prompt"], expected=None, unwanted="Lima"), subset=True,
        registry=registry,
    )  # fmt: skip
    assert found.batches == (first.batch.digest,)
    export("m@3", tmp_path / "out", registry=registry)
    from mlflow_edit.registry.flavor import _load_pyfunc

    assert _load_pyfunc(str(tmp_path / "out")).predict([A["prompt"]]) == ["Lima"]


def test_a_batch_learned_again_is_stored_in_mlflow(
    sqlite_registry: Any, chat_folder: Path, suite: Any, tmp_path: Path
) -> None:
    init("s", base=str(chat_folder), registry=sqlite_registry)
    file = tmp_path / "edits.jsonl"
    file.write_text("".join(json.dumps(edit) + "\n" for edit in (A, B)))
    apply("s", [file], editor="rank-one", registry=sqlite_registry, suite=suite)
    revert("s", ["b"], measured=False, registry=sqlite_registry)
    manifest = sqlite_registry.manifest(sqlite_registry.versions("s")[-1])
    assert [ref.n_edits for ref in Content.of(manifest).batches.values()] == [1]
    import mlflow

    model = mlflow.pyfunc.load_model("models:/s/3")
    assert model.predict([A["prompt"]]) == ["Lima"]
    file.write_text(json.dumps(C) + "\n")
    made = apply("s", [file], editor="rank-one", registry=sqlite_registry, suite=suite)
    revert("s", ["a"], measured=False, registry=sqlite_registry)
    assert [one.n_contextual for one in log("s", registry=sqlite_registry).versions][:2] == [1, 0]
    assert made.n_contextual == 0
    assert verify("s", registry=sqlite_registry).ok


def test_batches_are_learned_behind_those_of_their_context() -> None:
    contexts = {"z": ["d"], "d": ["a", "b"], "a": [], "b": ["gone"], "c": ["z", "a"]}
    assert learned_order(contexts) == ["a", "b", "d", "z", "c"]
