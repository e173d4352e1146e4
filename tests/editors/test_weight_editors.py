"""Editors of weights reach their targets, on linear maps stored either way, and keep the past."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_edits import batch_for, silent
from tiny_models import save_tiny, tiny_base, weights_hash
from torch.nn.functional import cross_entropy

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.alphaedit import AlphaEdit
from mlflow_edit.editors.answer_pulls import AnswerPulls, answer_inputs
from mlflow_edit.editors.contexts import Asking, askings
from mlflow_edit.editors.editor import Editor, Learning
from mlflow_edit.editors.finetune import Finetune
from mlflow_edit.editors.fisher import fisher_information
from mlflow_edit.editors.judging import in_force, judge
from mlflow_edit.editors.key_statistics import second_moments, texts_for
from mlflow_edit.editors.lora import Lora
from mlflow_edit.editors.memit import Memit
from mlflow_edit.editors.rewriting import mean_keys
from mlflow_edit.editors.rome import Rome
from mlflow_edit.editors.subject_prompts import subject_prompts
from mlflow_edit.editors.ultraedit import UltraEdit
from mlflow_edit.errors import InvalidParams, UnsupportedModel
from mlflow_edit.models.architecture import down_projection, rewritten_sites
from mlflow_edit.models.base_model import BaseModel, load_base
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.format import patch_digest, read_patch, write_patch

REWRITE = {"contexts": 1, "max_norm": 50, "decay": 0}
EDITORS: list[tuple[type[Editor[Any]], dict[str, Any]]] = [
    (Rome, REWRITE),
    (Memit, REWRITE),
    (AlphaEdit, REWRITE),
    (UltraEdit, {"max_rounds": 60}),
    (Finetune, {"layers": "2"}),
    (Lora, {}),
]
BASES = ["llama", "gpt2"]


def learn(editor: type[Editor[Any]], base: BaseModel, params: dict[str, Any], **more: Any) -> Any:
    return editor.with_params(params).learn(
        base, more.pop("batch", batch_for(base)), silent, **more
    )


@pytest.mark.parametrize(("editor", "params"), EDITORS)
@pytest.mark.parametrize("name", BASES)
def test_targets_are_reached_and_the_base_is_left_alone(
    taught_bases: Any, name: str, editor: type[Editor[Any]], params: dict[str, Any]
) -> None:
    base = taught_bases[name]
    before = weights_hash(base.model)
    learning: Learning = learn(editor, base, params)
    assert weights_hash(base.model) == before
    patch = learning.patch
    assert isinstance(patch, Delta)
    solved = [outcome.edit_id for outcome in learning.outcomes if outcome.solved]
    assert len(solved) >= 3
    assert set(patch.edit_ids) == set(solved)
    asked = [askings(base, edit, 1)[0] for edit in batch_for(base).subset(solved)]
    assert judge(base, asked, patch.changes).right.all()
    assert not judge(base, asked).right.all()
    assert read_patch(write_patch(patch)) == patch
    again: Learning = learn(editor, base, params)
    assert patch_digest(again.patch) == patch_digest(patch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("editor", "params"), [*EDITORS, (Finetune, {"ewc": 1.0})])
@pytest.mark.parametrize("name", BASES)
def test_targets_are_reached_in_16_bits(
    taught_bases: Any,
    name: str,
    editor: type[Editor[Any]],
    params: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    base = taught_bases[name]
    base = replace(base, model=deepcopy(base.model).to(dtype))
    learning: Learning = learn(editor, base, params)
    solved = [outcome.edit_id for outcome in learning.outcomes if outcome.solved]
    assert len(solved) >= 3
    asked = [askings(base, edit, 1)[0] for edit in batch_for(base).subset(solved)]
    assert judge(base, asked, learning.patch.changes).right.all()


def test_fine_tuning_keeps_the_type_of_the_checkpoint(taught_bases: Any, tmp_path: Path) -> None:
    teacher = taught_bases["llama"]
    halved = replace(teacher, model=deepcopy(teacher.model).to(torch.bfloat16))
    base = load_base(save_tiny(halved, tmp_path))
    assert next(base.model.parameters()).dtype == torch.float32
    patch = learn(Finetune, base, {}).patch
    assert {change.dtype for change in patch.changes} == {torch.bfloat16}
    asked = [askings(base, edit, 1)[0] for edit in batch_for(base).subset(patch.edit_ids)]
    assert len(asked) >= 3
    assert judge(base, asked, patch.changes).right.all()
    for change in patch.changes:
        edited = change.edited(base.model.get_parameter(change.tensor))
        assert edited.dtype == torch.bfloat16  # as a checkpoint of the edited model holds it
    rounded = load_base(tmp_path, dtype="float16")
    assert {c.dtype for c in learn(Finetune, rounded, {}).patch.changes} == {torch.float16}


@pytest.mark.parametrize("name", BASES)
def test_a_rank_one_edit_is_small(taught_bases: Any, name: str) -> None:
    base = taught_bases[name]
    patch = learn(Rome, base, REWRITE, batch=batch_for(base, n=1)).patch
    (change,) = patch.changes
    assert change.rank == 1
    assert change.bytes == 4 * sum(base.model.get_parameter(change.tensor).shape)


@pytest.mark.parametrize("name", BASES)
def test_the_order_of_a_batch_does_not_matter_to_rome(taught_bases: Any, name: str) -> None:
    base = taught_bases[name]
    batch = batch_for(base)
    turned = EditBatch(batch.edits[::-1])
    first, second = (learn(Rome, base, REWRITE, batch=b).patch for b in (batch, turned))
    assert patch_digest(first) == patch_digest(second)


@pytest.mark.parametrize("editor", [Memit, AlphaEdit])
@pytest.mark.parametrize("name", BASES)
def test_several_layers_share_the_change(
    taught_bases: Any, name: str, editor: type[Editor[Any]]
) -> None:
    base = taught_bases[name]
    patch = learn(editor, base, {**REWRITE, "layers": "1-2"}, batch=batch_for(base, n=2)).patch
    assert [".1." in path or ".2." in path for path in patch.touched] == [True, True]


def test_alphaedit_minds_the_keys_of_earlier_edits(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    batch = batch_for(base)
    first, later = batch.subset(["e0", "e1"]), batch.subset(["e2"])
    module = down_projection(rewritten_sites(base.model)[-1])
    kept = mean_keys(base, module, [subject_prompts(base, edit, 1) for edit in first])
    wide = {**REWRITE, "null_share": 1.0}
    moved = []
    with in_force(base, learn(AlphaEdit, base, wide, batch=first).patch.changes):
        for earlier in ((), first.edits):
            patch = learn(AlphaEdit, base, wide, batch=later, earlier=earlier).patch
            (change,) = patch.changes
            delta = change.added(base.model.get_parameter(change.tensor))
            moved.append(float((delta.double() @ kept).norm()))
    assert moved[1] < 0.5 * moved[0]


def test_ultraedit_minds_the_keys_of_earlier_edits(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    batch = batch_for(base)
    first, later = batch.subset(["e0", "e1"]), batch.subset(["e2"])
    module = down_projection(rewritten_sites(base.model, "2")[-1])
    asked = [askings(base, edit, 1)[0] for edit in first]
    moved = []
    with in_force(
        base, learn(UltraEdit, base, {"layers": "2", "max_rounds": 60}, batch=first).patch.changes
    ):
        kept = answer_inputs(base, [module], asked)[module]
        for earlier in ((), first.edits):
            patch = learn(
                UltraEdit, base, {"layers": "2", "max_rounds": 60}, batch=later, earlier=earlier
            ).patch
            (change,) = patch.changes
            delta = change.added(base.model.get_parameter(change.tensor))
            moved.append(float((delta.double() @ kept.T).norm()))
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize("name", BASES)
def test_pulls_make_up_the_gradient_of_the_weight(taught_bases: Any, name: str) -> None:
    base = taught_bases[name]
    asked = [Asking((9,), (11, 12, 13)), Asking((10,), (14,))]  # every token forms an answer
    sites = rewritten_sites(base.model, "2")
    module = down_projection(sites[-1])
    weight = base.model.get_submodule(module).weight
    weight.requires_grad_(True)
    try:
        expected = torch.zeros_like(weight)
        for one in asked:
            logits = base.model(input_ids=torch.tensor([[*one.prompt, *one.answer[:-1]]])).logits
            loss = cross_entropy(logits[0], torch.tensor(one.answer), reduction="sum")
            expected += torch.autograd.grad(loss, weight)[0]
    finally:
        weight.requires_grad_(False)
    pulled, verdicts = AnswerPulls(base, sites, asked).read()
    inputs = answer_inputs(base, [module], asked)[module]
    torch.testing.assert_close(pulled[module].inputs, inputs, atol=1e-5, rtol=1e-4)
    found = pulled[module].gradients.T @ pulled[module].inputs
    found = found.T if name == "gpt2" else found  # which stores the transpose
    torch.testing.assert_close(found.float(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(verdicts.losses, judge(base, asked).losses)


def test_fine_tuning_stays_within_its_bound(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    params = {"layers": "1-3", "max_change": 0.02, "learning_rate": 0.05}
    free, held = (
        learn(Finetune, base, given, batch=batch_for(base).subset(["e1"])).patch
        for given in ({**params, "max_change": None}, params)
    )
    most = [
        change.added(base.model.get_parameter(change.tensor)).abs().max() for change in free.changes
    ]
    assert max(most) > 0.02
    assert held.changes
    for change in held.changes:
        own = base.model.get_parameter(change.tensor)
        assert float(change.added(own).abs().max()) <= 0.02 * (1 + 1e-5)


def test_fine_tuning_on_a_share_of_the_elements(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    params = {"layers": "1-2", "density": 0.1}
    patch = learn(Finetune, base, params, batch=batch_for(base, n=1)).patch
    for change in patch.changes:
        assert len(change.indices) == max(
            1, round(0.1 * base.model.get_parameter(change.tensor).numel())
        )


def test_fine_tuning_on_top_of_a_delta_adds_only_its_own(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    first, second = batch_for(base).subset(["e0"]), batch_for(base).subset(["e1"])
    below = learn(Rome, base, REWRITE, batch=first).patch
    with in_force(base, below.changes):
        above = learn(Finetune, base, {"layers": "1"}, batch=second).patch
    asked = [askings(base, edit, 1)[0] for edit in second]
    assert above.edit_ids == ("e1",)
    assert judge(base, asked, (*below.changes, *above.changes)).right.all()


def test_replay_keeps_earlier_edits(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    batch = batch_for(base)
    first, second = batch.subset(["e0", "e1"]), batch.subset(["e3"])
    below = learn(Lora, base, {}, batch=first).patch
    asked = [askings(base, edit, 1)[0] for edit in first]
    losses = []
    with in_force(base, below.changes):
        for replay in (0, 2):
            params = {"learning_rate": 0.01, "replay": replay}
            learned = learn(Finetune, base, params, batch=second, earlier=first.edits)
            assert learned.outcomes[0].solved
            losses.append(float(judge(base, asked, learned.patch.changes).losses.mean()))
    assert losses[1] < losses[0]


def test_ewc_holds_what_the_texts_need(taught_bases: Any, tmp_path: Any) -> None:
    base = taught_bases["llama"]
    texts = tmp_path / "texts.txt"
    texts.write_text("Where does the river begin ? It begins in the north .\n")
    (text,) = texts_for(str(texts))
    name = "model.layers.2.mlp.down_proj.weight"
    fisher = fisher_information(base, [name], [text])[name]
    weight = base.model.get_parameter(name)
    ids = base.tokenizer(text, return_tensors="pt")["input_ids"]
    weight.requires_grad_(True)
    try:
        loss = cross_entropy(base.model(input_ids=ids).logits[0, :-1], ids[0, 1:])
        (slope,) = torch.autograd.grad(loss, weight)
    finally:
        weight.requires_grad_(False)
    torch.testing.assert_close(fisher, slope.square())
    costs = []
    for ewc in (0.0, 1e3):
        params = {"layers": "2", "ewc": ewc, "retained_texts": str(texts)}
        patch = learn(Finetune, base, params, batch=batch_for(base).subset(["e1"])).patch
        changes = {change.tensor: change for change in patch.changes}
        moved = changes[name].added(weight)
        costs.append(float((fisher * moved.square()).sum()))
    assert costs[1] < costs[0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_the_second_moment_is_that_of_the_keys(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    texts = ("Who wrote the book of songs ?", "Paris Berlin Rome", "The capital")
    module = down_projection(rewritten_sites(base.model)[0])
    seen = []
    handle = base.model.get_submodule(module).register_forward_hook(
        lambda _, args, output: seen.append(args[0].reshape(-1, args[0].shape[-1]))
    )
    for text in texts:
        base.model(input_ids=torch.tensor([base.tokenizer(text)["input_ids"]]))
    handle.remove()
    keys = torch.cat(seen).double()
    expected = keys.T @ keys / len(keys)
    for _ in range(2):  # estimated, and read from the cache
        found = second_moments(base, [module], texts)[module]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    ridged = second_moments(base, [module], texts, ridge=0.5)[module]
    torch.testing.assert_close(ridged.trace(), 1.5 * found.trace())


def test_the_second_moment_is_the_base_s_whatever_is_attached(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    texts = ("A text of its own, about rivers and books.",)
    patch = learn(Rome, base, REWRITE).patch
    module = "model.layers.3.mlp.down_proj"
    with in_force(base, patch.changes):
        under = second_moments(base, [module], texts)[module]
    fresh = BaseModel(base.model, base.tokenizer, "another name for the same weights")
    torch.testing.assert_close(second_moments(fresh, [module], texts)[module], under)


def test_texts_that_cannot_be_read_are_refused(tmp_path: Any) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    for path in ("none.txt", "empty.txt"):
        with pytest.raises(InvalidParams, match="covariance_texts"):
            texts_for(str(tmp_path / path))
    assert len(texts_for(None)) > 100


@pytest.mark.parametrize(
    ("layers", "said"), [("0", "block 0"), ("99", "out of range"), ("a-b", "by number")]
)
def test_layers_that_are_not_there_are_refused(taught_bases: Any, layers: str, said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        learn(Rome, taught_bases["llama"], {"layers": layers})


@pytest.mark.parametrize("name", ["llama", "llama-chat"])
def test_the_subject_is_found_in_the_tokens(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    edit = Edit(id="e", prompt="Who wrote the book of Ada Lovelace?", target="Oslo")
    found = subject_prompts(base, edit, 3)
    for one, position in zip(found.asked, found.positions, strict=True):
        said = base.tokenizer.decode(one.prompt[: position + 1])
        assert said.endswith("Lovelace")
    assert len(found.asked) == 3
    assert found.essence is not None
    assert base.tokenizer.decode(found.essence.prompt[: found.essence.position + 1]).endswith(
        "Lovelace"
    )


@pytest.mark.parametrize(("n_blocks", "said"), [(1, "layer 1 is out of range"), (2, None)])
def test_ultraedit_on_few_blocks(n_blocks: int, said: str | None) -> None:
    base = tiny_base("llama", num_hidden_layers=n_blocks)
    editor = UltraEdit.with_params({"max_rounds": 1})
    if said is None:
        assert editor._layers(base) == "1-1"
    else:
        with pytest.raises(UnsupportedModel, match=said):
            editor.learn(base, batch_for(base, n=1), silent)
