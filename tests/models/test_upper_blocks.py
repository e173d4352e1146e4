"""Predicting from cached activations equals running the whole model, for every family and layer."""

from typing import Any

import pytest
import torch
from tiny_models import ALL, CAUSAL, N_LAYERS, PAD, weights_hash
from torch import Tensor

from mlflow_edit.models.architecture import Site, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import answer_ids, prompt_ids
from mlflow_edit.models.upper_blocks import Example, prepare

LAYERS = range(N_LAYERS)
ASKED = (
    ("Who wrote the book?", "Ada Lovelace"),
    ("Where does the river begin, in which country of the north ? Is it in Peru ?", "Oslo"),
    ("x", "Lima and Cairo"),
    ("The capital of France is", "Rome . Berlin and Tokyo"),
)


def examples_for(base: BaseModel) -> list[Example]:
    if base.task == "classifier":
        return [Example(tuple(prompt_ids(base, p)), (i,), i) for i, (p, _) in enumerate(ASKED)]
    return [
        Example(tuple(prompt_ids(base, p)), tuple(answer_ids(base, a, prompt=p)), i)
        for i, (p, a) in enumerate(ASKED)
    ]


def whole_pass(base: BaseModel, site: Site, example: Example, value: Tensor | None) -> Tensor:
    """Run the whole model on one example, without padding or cache, with `value` put by a hook."""
    model: Any = base.model
    prompt, answer = list(example.prompt), list(example.answer)
    key = len(prompt) - 1 if base.task == "causal" else 0

    def put(module: Any, args: Any, output: Any) -> Any:
        hidden = (output if isinstance(output, Tensor) else output[0]).clone()
        if value is not None:
            hidden[0, key + 1 - len(value) : key + 1] = value
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

    handle = model.get_submodule(site.layer).register_forward_hook(put)
    try:
        with torch.no_grad():
            if base.task == "classifier":
                return model(input_ids=torch.tensor([prompt])).logits
            if base.task == "seq2seq":
                decoder = torch.tensor([[PAD, *answer[:-1]]])
                return model(input_ids=torch.tensor([prompt]), decoder_input_ids=decoder).logits[0]
            ids = torch.tensor([[*prompt, *answer[:-1]]])
            return model(input_ids=ids, use_cache=False).logits[0, key:]
    finally:
        handle.remove()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("changed", [False, True], ids=["own output", "other value"])
def test_predicting_equals_the_whole_pass(
    tiny_bases: Any, name: str, layer: int, changed: bool
) -> None:
    base = tiny_bases[name]
    examples, site = examples_for(base), locate(base.model, layer)
    prepared = prepare(base, site, examples)
    values = prepared.own + torch.randn_like(prepared.own) * 3 if changed else prepared.own

    predictions = prepared.predict(values)

    for row, example in enumerate(examples):
        mine = predictions.rows == row
        assert predictions.targets[mine].tolist() == list(example.answer)
        expected = whole_pass(base, site, example, values[row] if changed else None)
        torch.testing.assert_close(predictions.logits[mine], expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("span", [2, 3])
@pytest.mark.parametrize("name", CAUSAL)
def test_values_of_several_positions_and_contexts_are_those_of_the_whole_pass(
    tiny_bases: Any, name: str, span: int
) -> None:
    base = tiny_bases[name]
    site = locate(base.model, 1)
    owners = (1, 0, 2, 1)
    examples = [
        Example(e.prompt * 3, e.answer, owner)
        for e, owner in zip(examples_for(base), owners, strict=True)
    ]
    prepared = prepare(base, site, examples, span=span)
    assert prepared.own.shape[1] == span
    starts = prepared.start
    for owner in range(3):
        mine = [i for i, other in enumerate(owners) if other == owner]
        torch.testing.assert_close(starts[owner], prepared.own[mine].float().mean(0))
    values = starts + torch.randn_like(starts)

    def check(given: Any, kept: list[int]) -> None:
        predictions = given.predict(values[kept])
        for new, owner in enumerate(kept):
            mine = [examples[i] for i, other in enumerate(owners) if other == owner]
            expected = torch.cat([whole_pass(base, site, e, values[owner]) for e in mine])
            assert predictions.targets[predictions.rows == new].tolist() == [
                token for e in mine for token in e.answer
            ]
            torch.testing.assert_close(
                predictions.logits[predictions.rows == new], expected, atol=2e-4, rtol=1e-4
            )

    check(prepared, [0, 1, 2])
    check(prepared.select(torch.tensor([1])), [1])
    check(prepared.select(torch.tensor([2, 1])).select(torch.tensor([1])), [1])


@pytest.mark.parametrize("layer", LAYERS)
def test_blocks_that_hand_on_more_than_hidden_states_predict_too(layer: int) -> None:
    from models.test_architecture import UNKNOWN, unknown

    config, model, fields, path, _ = UNKNOWN["bloom"]
    base = unknown(config, model, **fields)
    examples = examples_for(base)
    prepared = prepare(base, locate(base.model, f"{path.rpartition('.')[0]}.{layer}"), examples)
    assert prepared.idle == ()
    values = prepared.own + torch.randn_like(prepared.own)
    for chosen in (prepared, prepared.select(torch.arange(len(examples)))):
        predictions = chosen.predict(values)
        for row, example in enumerate(examples):
            expected = whole_pass(base, prepared.site, example, values[row])
            mine = predictions.logits[predictions.rows == row]
            torch.testing.assert_close(mine, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_keys_are_the_blocks_output_at_the_key_token(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    site = locate(base.model)
    for example in (examples := examples_for(base)):
        alone = prepare(base, site, [example._replace(owner=0)])
        row = examples.index(example)
        together = prepare(base, site, examples)
        torch.testing.assert_close(together.keys[row], alone.keys[0], atol=1e-4, rtol=1e-4)
        assert together.key_tokens[row] == alone.key_tokens[0]
        if base.task == "causal":
            assert alone.key_tokens[0] == example.prompt[-1]


@pytest.mark.parametrize("rows", [[0], [2], [1, 3], [0, 1, 2, 3], [3, 0]])
@pytest.mark.parametrize("name", ["llama", "mistral", "opt", "gpt2", "bert", "t5"])
def test_selected_examples_predict_as_they_did(tiny_bases: Any, name: str, rows: list[int]) -> None:
    base = tiny_bases[name]
    examples, site = examples_for(base), locate(base.model, 1)
    prepared = prepare(base, site, examples)
    values = prepared.own + torch.randn_like(prepared.own)
    whole = prepared.predict(values)

    selected = prepared.select(torch.tensor(rows))
    part = selected.predict(values[rows])

    for new, old in enumerate(rows):
        torch.testing.assert_close(
            part.logits[part.rows == new], whole.logits[whole.rows == old], atol=2e-4, rtol=1e-4
        )
        assert torch.equal(selected.keys[new], prepared.keys[old])


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_gradients_are_those_of_the_whole_pass(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    site = locate(base.model, 1)
    prepared = prepare(base, site, examples_for(base)[:1])
    value = prepared.own.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(prepared.predict(value).logits.logsumexp(-1).sum(), value)
    step = torch.randn_like(value)
    step = step / step.norm() * 1e-2
    with torch.no_grad():
        up = prepared.predict(value + step).logits.logsumexp(-1).sum()
        down = prepared.predict(value - step).logits.logsumexp(-1).sum()
    torch.testing.assert_close((gradient * step).sum(), (up - down) / 2, atol=2e-4, rtol=0.02)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_bfloat16_models_are_read_and_predicted(tiny_bases: Any, name: str) -> None:
    from tiny_models import tiny_base

    base = tiny_base(name)
    base.model.to(torch.bfloat16)
    prepared = prepare(base, locate(base.model), examples_for(base))
    assert prepared.keys.dtype == torch.bfloat16
    assert prepared.predict(prepared.own.float()).logits.dtype == torch.float32


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
@pytest.mark.parametrize("where", ["below", "above"])
def test_an_interruption_leaves_the_model_as_it_was(tiny_bases: Any, name: str, where: str) -> None:
    base = tiny_bases[name]
    site = locate(base.model, 1)
    before = weights_hash(base.model)
    examples = examples_for(base)
    prepared = prepare(base, site, examples)
    stopped = base.model.get_submodule(f"{site.layers}.{3 if where == 'above' else 0}")
    handle = stopped.register_forward_hook(interrupt)
    for attempt in (lambda: prepare(base, site, examples), lambda: prepared.predict(prepared.own)):
        with pytest.raises(KeyboardInterrupt):
            attempt()
    handle.remove()
    assert_bare(base)
    assert weights_hash(base.model) == before


def assert_bare(base: BaseModel) -> None:
    for module in base.model.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("name", CAUSAL)
def test_blocks_below_the_edited_one_are_not_run(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    site = locate(base.model, 2)
    prepared = prepare(base, site, examples_for(base))
    ran: list[int] = []
    blocks = base.model.get_submodule(site.layers)
    handles = [
        next(block.children()).register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, block in enumerate(blocks)
    ]
    prepared.predict(prepared.own)
    for handle in handles:
        handle.remove()
    assert set(ran) == {3}


def test_a_forward_that_others_put_on_a_block_stays(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    site = locate(base.model, 1)
    block = base.model.get_submodule(site.layer)
    original = block.forward

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    block.forward = wrapped
    try:
        prepared = prepare(base, site, examples_for(base))
        prepared.predict(prepared.own)
        assert block.forward is wrapped
    finally:
        del block.forward


def test_blocks_that_return_tuples_are_run_again(tiny_bases: Any) -> None:
    base = tiny_bases["t5"]
    site = locate(base.model, 2)
    prepared = prepare(base, site, examples_for(base))
    assert prepared.idle == ()
    assert len(prepare(tiny_bases["llama"], locate(tiny_bases["llama"].model, 2),
                       examples_for(tiny_bases["llama"])).idle) == 3  # fmt: skip
