"""What GRACE promises beyond the contract: parameters, limits, what is left unsolved."""

from typing import Any

import pytest
import torch
from editors.contract import assert_untouched
from tiny_edits import BATCH_DIGEST, PROMPTS, batch_for, codebook_at, edited_with, silent
from tiny_models import tiny_base

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors import entry_learning
from mlflow_edit.editors.catalog import editor_names, find_editor, parse_params
from mlflow_edit.editors.contexts import Asking
from mlflow_edit.editors.grace import Grace, GraceParams
from mlflow_edit.errors import InvalidEdit, InvalidParams, UnknownEditor, UnsupportedModel
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.architecture import locate
from mlflow_edit.patches.codebook import Codebook


def learn(base: Any, batch: EditBatch, **params: Any) -> Any:
    return find_editor("grace", params).learn(base, batch, silent)


def test_the_key_is_the_blocks_output_and_the_label_is_the_edits(taught_bases: Any) -> None:
    base = taught_bases["qwen2"]
    batch = batch_for(base)
    patch = learn(base, batch, dtype="float32").patch
    assert isinstance(patch, Codebook)
    assert patch.layer == "model.layers.2"
    by_hand = codebook_at(base, PROMPTS)
    for edit in batch:
        mine, theirs = patch.edit_ids.index(edit.id), by_hand.edit_ids.index(edit.id)
        torch.testing.assert_close(patch.keys[mine], by_hand.keys[theirs], atol=1e-4, rtol=1e-4)
        assert patch.key_tokens[mine] == by_hand.key_tokens[theirs]
        assert patch.labels[mine] == edit.label_digest


def test_an_edit_without_steps_is_unsolved_and_the_others_land(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    easy = Edit(id="known", prompt="Where is the book?", target="Paris")
    hard = Edit(id="hard", prompt="Where is the film?", target="a q z x w v k j h f")
    learning = learn(base, EditBatch((hard, easy)), max_steps=1)
    assert [(o.edit_id, o.solved) for o in learning.outcomes] == [("hard", False), ("known", True)]
    assert learning.outcomes[0].loss > learning.outcomes[1].loss
    assert learning.outcomes[0].steps == 1
    assert learning.patch.edit_ids == ("known",)


def test_when_nothing_is_solved_the_patch_is_empty_and_does_nothing(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    hard = Edit(id="hard", prompt="Where is the film?", target="a q z x w v k j h f")
    learning = learn(base, EditBatch((hard,)), max_steps=1)
    assert not learning.outcomes[0].solved
    assert len(learning.patch) == 0
    with edited_with(base, learning.patch) as edited:
        assert edited.composition.patches == ()


def test_an_impossible_pair_names_one_and_keeps_the_other() -> None:
    base = tiny_base("bert")
    with torch.no_grad():
        base.model.classifier.weight[3] = base.model.classifier.weight[1]  # type: ignore[union-attr]
        base.model.classifier.bias[3] = base.model.classifier.bias[1] + 5  # type: ignore[union-attr]
    edits = (
        Edit(id="never", prompt="Who wrote the book?", target="sports"),
        Edit(id="fine", prompt="Where does the river begin?", target="business"),
    )
    learning = learn(base, EditBatch(edits))
    assert {o.edit_id: o.solved for o in learning.outcomes} == {"never": False, "fine": True}
    assert learning.patch.edit_ids == ("fine",)


def test_a_batch_is_learned_the_same_in_small_chunks(
    taught_bases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = taught_bases["gpt2"]
    batch = batch_for(base)
    whole = learn(base, batch)
    monkeypatch.setattr(entry_learning, "MAX_ROWS", 1)
    alone = learn(base, batch)
    for one, other in zip(whole.outcomes, alone.outcomes, strict=True):
        assert one.solved == other.solved
        assert one.loss == pytest.approx(other.loss, abs=1e-3)
    for mine, edit_id in enumerate(whole.patch.edit_ids):
        theirs = alone.patch.edit_ids.index(edit_id)
        torch.testing.assert_close(
            whole.patch.keys[mine], alone.patch.keys[theirs], atol=1e-2, rtol=1e-2
        )


def test_the_order_of_edits_does_not_matter(taught_bases: Any) -> None:
    base = taught_bases["qwen2"]
    batch = batch_for(base)
    turned = EditBatch(tuple(reversed(batch.edits)))
    assert {o.edit_id: o.solved for o in learn(base, batch).outcomes} == {
        o.edit_id: o.solved for o in learn(base, turned).outcomes
    }


@pytest.mark.parametrize(("max_rows", "max_tokens"), [(64, 4096), (2, 4096), (64, 30), (64, 1)])
def test_chunks_hold_every_example_once_within_limits(
    monkeypatch: pytest.MonkeyPatch, max_rows: int, max_tokens: int
) -> None:
    monkeypatch.setattr(entry_learning, "MAX_ROWS", max_rows)
    monkeypatch.setattr(entry_learning, "MAX_TOKENS", max_tokens)
    edit = Edit(prompt="Who?", target="Ada")
    jobs = [
        entry_learning.Job(
            i, edit, (Asking((1,) * n, (2,) * (1 + n % 3)),) * (1 + n % 2), 1 + n // 6
        )
        for i, n in enumerate((5, 1, 9, 3, 3, 7, 2))
    ]
    chunks = entry_learning.chunks(jobs)
    assert sorted(job.index for chunk in chunks for job in chunk) == list(range(7))
    for chunk in chunks:
        assert len({job.span for job in chunk}) == 1
        n_rows, longest = sum(len(job.asked) for job in chunk), max(job.length for job in chunk)
        assert len(chunk) == 1 or (n_rows <= max_rows and longest * n_rows <= max_tokens)


def test_every_edit_that_cannot_be_put_is_named_at_once(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    edits = (
        Edit(id="fine", prompt="Who?", target="Ada"),
        Edit(id="long-prompt", prompt="Paris " * 200, target="Ada"),
        Edit(id="long-target", prompt="Where?", target="Oslo " * 200),
    )
    with pytest.raises(InvalidEdit) as caught:
        learn(base, EditBatch(edits))
    assert [(p.where, p.field) for p in caught.value.problems] == [  # type: ignore[attr-defined]
        ("edit long-prompt", "prompt"),
        ("edit long-target", "target"),
    ]
    assert_untouched(base)


def test_an_unknown_class_is_named(tiny_bases: Any) -> None:
    edits = EditBatch((Edit(id="odd", kind="label", prompt="Who?", target="politics"),))
    with pytest.raises(InvalidEdit, match="edit odd: target: 'politics' is not a class"):
        learn(tiny_bases["bert"], edits)


@pytest.mark.parametrize("layer", ["0", 3, "model.layers.1"])
def test_the_layer_may_be_chosen(taught_bases: Any, layer: Any) -> None:
    base = taught_bases["llama"]
    easy = EditBatch((Edit(id="known", prompt="Where is the book?", target="Paris"),))
    learning = learn(base, easy, layer=layer)
    assert learning.patch.layer == locate(base.model, layer).layer
    with edited_with(base, learning.patch) as edited:
        answer = generate_answers(edited, ["Where is the book?"], max_new_tokens=5)[0]
    assert answer.text == "Paris"
    assert answer.fired is not None
    assert answer.fired.batch == BATCH_DIGEST


@pytest.mark.parametrize("layer", ["99", "-1", "lm_head", "nowhere.1"])
def test_a_layer_that_is_not_there_is_refused(taught_bases: Any, layer: str) -> None:
    base = taught_bases["llama"]
    with pytest.raises(UnsupportedModel):
        learn(base, batch_for(base), layer=layer)


def test_the_radius_may_be_given_or_relative(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    easy = EditBatch((Edit(id="known", prompt="Where is the book?", target="Paris"),))
    assert learn(base, easy, radius=3.5).patch.radii.tolist() == [3.5]
    one = float(learn(base, easy, relative_radius=0.1).patch.radii)
    assert float(learn(base, easy, relative_radius=0.2).patch.radii) == pytest.approx(2 * one)
    assert one > 0


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"radius": 0}, "radius"),
        ({"radius": "inf"}, "radius"),
        ({"radius": "nan"}, "radius"),
        ({"radius": "near"}, "radius"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 1.5}, "max_steps"),
        ({"loss_target": 0}, "loss_target"),
        ({"dtype": "int8"}, "dtype"),
        ({"layers": "3"}, "layers"),
        ({"relative_radius": 3, "max_steps": "x"}, "max_steps"),
    ],
)
def test_settings_out_of_range_are_refused(params: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidParams, match=named) as caught:
        find_editor("grace", params)
    assert "learning_rate=0.25" in str(caught.value.hint)


def test_settings_may_come_as_text() -> None:
    params = parse_params(["radius=3", " layer = 12 ", "dtype=float32"])
    editor = find_editor("grace", params)
    assert isinstance(editor, Grace)
    assert editor.params == GraceParams(radius=3.0, layer="12", dtype="float32")


@pytest.mark.parametrize("given", [["radius"], ["=3"], ["a=1", "a=2"], [" =2"]])
def test_malformed_settings_are_refused(given: list[str]) -> None:
    with pytest.raises(InvalidParams):
        parse_params(given)


def test_an_unknown_editor_is_refused_and_a_near_one_named() -> None:
    assert "grace" in editor_names()
    with pytest.raises(UnknownEditor, match="grcae") as caught:
        find_editor("grcae", {})
    assert "Did you mean 'grace'?" in str(caught.value.hint)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_bfloat16_base_is_edited(dtype: str) -> None:
    from tiny_models import taught_base

    base = taught_base("qwen2")
    base.model.to(torch.bfloat16)
    learning = learn(base, batch_for(base), dtype=dtype)
    solved = [o.edit_id for o in learning.outcomes if o.solved]
    assert len(solved) >= 3
    with edited_with(base, learning.patch) as edited:
        answers = generate_answers(edited, PROMPTS, max_new_tokens=8)
    for edit, answer in zip(batch_for(base), answers, strict=True):
        if edit.id in solved:
            assert answer.text == edit.target


def test_keys_are_not_rounded_out_of_their_places(tiny_bases: Any) -> None:
    base = tiny_bases["bert"]
    batch = batch_for(base)
    roomy = learn(base, batch, radius=1.0)
    assert roomy.patch.keys.dtype == roomy.patch.values.dtype == torch.float16
    tight = learn(base, batch, radius=1e-4)
    assert tight.patch.keys.dtype == torch.float32
    with edited_with(base, tight.patch) as edited:
        answers = generate_answers(edited, PROMPTS, max_new_tokens=1)
    assert [a.fired.edit_id if a.fired else None for a in answers] == [e.id for e in batch]
