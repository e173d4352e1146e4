"""A patch does the same in every way of running a model, and nothing at all elsewhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_edits import BATCH_DIGEST, QUESTIONS, UNRELATED, codebook_at, edited_with
from tiny_models import CAUSAL, FAMILIES, PAD, tiny_base, weights_hash
from torch import Tensor

from mlflow_edit.errors import InvalidInputError
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.patches.codebook import Codebook

PROMPTS = [prompt for prompt, _ in QUESTIONS]
MIXED = [PROMPTS[0], UNRELATED[0], PROMPTS[1], PROMPTS[2]]
SOME = ["llama", "gpt2", "opt", "mistral"]


def batch_of(base: BaseModel, prompts: list[str], side: str) -> dict[str, Tensor]:
    rows = [prompt_ids(base, prompt) for prompt in prompts]
    padded = base.tokenizer.pad({"input_ids": rows}, padding_side=side, return_tensors="pt")
    return {name: padded[name] for name in ("input_ids", "attention_mask")}


def positions_of(inputs: dict[str, Tensor]) -> Tensor:
    return (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)


def by_hand(base: BaseModel, book: Codebook, entry: int | None, prompt: str) -> Tensor:
    """Return the last logits of one prompt alone, its value put in place by a hook."""
    model: Any = base.model

    def put(module: Any, args: Any, output: Any) -> Any:
        changed = output.clone()
        if entry is not None:
            changed[0, -1] = book.values[entry]
        return changed

    handle = model.get_submodule(book.layer).register_forward_hook(put)
    try:
        with torch.no_grad():
            return model(input_ids=torch.tensor([prompt_ids(base, prompt)])).logits[0, -1]
    finally:
        handle.remove()


def generated(base: BaseModel, prompts: list[str], **options: Any) -> list[list[int]]:
    model: Any = base.model
    inputs = batch_of(base, prompts, "left")
    torch.manual_seed(5)
    output = model.generate(**inputs, max_new_tokens=8, pad_token_id=PAD, **options)
    width = inputs["input_ids"].shape[1]
    n_returned = len(output) // len(prompts)
    return [output[i * n_returned, width:].tolist() for i in range(len(prompts))]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", CAUSAL)
def test_each_row_of_a_padded_batch_fires_at_its_last_token(
    tiny_bases: Any, name: str, side: str
) -> None:
    base = tiny_bases[name]
    book = codebook_at(base, PROMPTS, layer=1)
    entries = {edit: i for i, edit in enumerate(book.edit_ids)}
    inputs = batch_of(base, MIXED, side)
    with edited_with(base, book) as edited, torch.no_grad(), edited.recording() as log:
        logits = edited.model(**inputs, position_ids=positions_of(inputs)).logits
    for row, (prompt, edit) in enumerate(zip(MIXED, ["e0", None, "e1", "e2"], strict=True)):
        last = int(inputs["attention_mask"][row].nonzero()[-1])
        entry = None if edit is None else entries[edit]
        expected = by_hand(base, book, entry, prompt)
        torch.testing.assert_close(logits[row, last], expected, atol=3e-4, rtol=1e-3)
        fired = log.of_row(row)
        assert (fired.edit_id if fired else None) == edit
        if fired:
            assert fired.batch == BATCH_DIGEST
            assert fired.distance <= fired.radius
    assert log.rows() == {0, 2, 3}


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"do_sample": True, "temperature": 1.3},
        {"do_sample": False, "num_beams": 3},
    ],
    ids=["greedy", "sampling", "beams"],
)
@pytest.mark.parametrize("name", SOME)
def test_generation_is_the_same_with_and_without_cache(
    tiny_bases: Any, name: str, options: dict[str, Any]
) -> None:
    base = tiny_bases[name]
    plain = generated(base, MIXED, **options)
    with edited_with(base, codebook_at(base, PROMPTS, layer=1)):
        cached = generated(base, MIXED, use_cache=True, **options)
        assert generated(base, MIXED, use_cache=False, **options) == cached
    assert cached[1] == plain[1]
    assert cached != plain


@pytest.mark.parametrize("name", SOME)
def test_generation_in_a_batch_is_generation_alone(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    with edited_with(base, codebook_at(base, PROMPTS, layer=1)):
        together = generated(base, MIXED, do_sample=False)
        for prompt, tokens in zip(MIXED, together, strict=True):
            alone = generated(base, [prompt], do_sample=False)[0]
            assert tokens[: len(alone)] == alone
            assert set(tokens[len(alone) :]) <= {PAD}


def test_beams_record_the_edit_in_the_rows_of_their_prompt(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    with edited_with(base, codebook_at(base, PROMPTS, layer=1)) as edited:
        with edited.recording() as log:
            generated(base, [MIXED[1], MIXED[0]], do_sample=False, num_beams=3)
        assert log.rows() == {3, 4, 5}


@pytest.mark.parametrize("name", CAUSAL)
def test_generate_pipeline_and_forward_agree(tiny_bases: Any, name: str) -> None:
    from transformers import pipeline

    base = tiny_bases[name]
    with edited_with(base, codebook_at(base, PROMPTS, layer=1)) as edited:
        model: Any = edited.model
        pipe = pipeline("text-generation", model=model, tokenizer=base.tokenizer, device="cpu")
        options = {"max_new_tokens": 5, "do_sample": False}
        piped = pipe(PROMPTS[0], return_full_text=False, **options)[0]["generated_text"]
        ids = prompt_ids(base, PROMPTS[0])
        tokens = generated(base, [PROMPTS[0]], do_sample=False)[0][:5]
        stepwise = []
        with torch.no_grad():
            for _ in tokens:
                logits = model(input_ids=torch.tensor([ids + stepwise]), use_cache=False).logits
                stepwise.append(int(logits[0, -1].argmax()))
    assert stepwise == tokens
    assert piped == base.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_gradient_modes_agree(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    inputs = batch_of(base, PROMPTS, "right")
    if base.task == "seq2seq":
        inputs["decoder_input_ids"] = torch.full((len(PROMPTS), 1), PAD)
    seen = []
    with edited_with(base, codebook_at(base, PROMPTS, layer=1, radius=0.05)) as edited:
        for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
            with mode(), edited.recording() as log:
                seen.append(edited.model(**inputs).logits.clone())
            assert log.rows() == {0, 1, 2, 3}
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_where_nothing_fires_the_outputs_are_the_bases_own(name: str, dtype: torch.dtype) -> None:
    base = tiny_base(name)
    base.model.to(dtype)
    before = weights_hash(base.model)
    inputs = batch_of(base, [*UNRELATED, *PROMPTS], "left" if base.task == "causal" else "right")
    if base.task == "seq2seq":
        inputs["decoder_input_ids"] = torch.full((len(inputs["input_ids"]), 1), PAD)
    with torch.no_grad():
        plain = base.model(**inputs).logits
        far = codebook_at(base, PROMPTS, layer=1, radius=0.0, dtype=torch.float16)
        with edited_with(base, replace(far, keys=far.keys + 1)) as edited:
            with edited.recording() as log:
                assert torch.equal(edited.model(**inputs).logits, plain)
            assert not log.rows()
        near = codebook_at(base, PROMPTS, layer=1, radius=1.0, dtype=torch.float16)
        with edited_with(base, near) as edited:
            assert not torch.equal(edited.model(**inputs).logits, plain)
            with edited.disabled():
                assert torch.equal(edited.model(**inputs).logits, plain)
            assert not torch.equal(edited.model(**inputs).logits, plain)
        assert torch.equal(base.model(**inputs).logits, plain)
    assert weights_hash(base.model) == before


@pytest.mark.parametrize("name", SOME)
def test_bfloat16_rows_fire_in_any_batch(name: str) -> None:
    base = tiny_base(name)
    base.model.to(torch.bfloat16)
    book = codebook_at(base, PROMPTS, layer=1, radius=0.5, dtype=torch.float16)
    with edited_with(base, book) as edited, torch.inference_mode():
        for side in ("left", "right"):
            inputs = batch_of(base, MIXED, side)
            with edited.recording() as log:
                edited.model(**inputs, position_ids=positions_of(inputs))
            assert {row: log.of_row(row).edit_id for row in log.rows()} == {
                0: "e0",
                2: "e1",
                3: "e2",
            }


@pytest.mark.parametrize("name", FAMILIES)
def test_detaching_leaves_no_trace(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    edited = edited_with(base, codebook_at(base, PROMPTS, layer=1))
    edited.detach()
    edited.detach()
    for module in base.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)


def test_an_edited_model_refuses_to_be_saved_without_its_edits(
    tiny_bases: Any, tmp_path: Path
) -> None:
    base = tiny_bases["llama"]
    with edited_with(base, codebook_at(base, PROMPTS, layer=1)) as edited:
        with pytest.raises(InvalidInputError, match="without its edits"):
            edited.model.save_pretrained(tmp_path / "edited")
        assert not (tmp_path / "edited").exists()
    base.model.save_pretrained(tmp_path / "base")
    assert (tmp_path / "base" / "model.safetensors").exists()


def test_codebooks_of_two_layers_answer_together(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    low = codebook_at(base, PROMPTS[:1], layer=0)
    high = codebook_at(base, PROMPTS[1:2], layer=2)
    with edited_with(base, low, high) as edited, torch.no_grad(), edited.recording() as log:
        inputs = batch_of(base, MIXED, "left")
        edited.model(**inputs, position_ids=positions_of(inputs))
    assert log.rows() == {0, 2}


@pytest.mark.parametrize("name", FAMILIES)
def test_an_entry_of_another_token_never_fires(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    book = codebook_at(base, PROMPTS, layer=1, radius=100.0)
    inputs = batch_of(base, PROMPTS, "right")
    if base.task == "seq2seq":
        inputs["decoder_input_ids"] = torch.full((len(PROMPTS), 1), PAD)
    elsewhere = replace(book, key_tokens=torch.full_like(book.key_tokens, 399))
    for patch, fires in ((elsewhere, False), (book, True)):
        with (
            edited_with(base, patch) as edited,
            torch.no_grad(),
            edited.recording() as log,
        ):
            edited.model(**inputs)
        assert bool(log.rows()) == fires
