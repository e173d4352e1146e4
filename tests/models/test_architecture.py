"""Which block is edited: the table, numbers, paths, and models that are in no table."""

from typing import Any

import pytest
import torch
import transformers
from tiny_edits import batch_for, edited_with, silent
from tiny_models import ALL, COMMON, CONTEXT, FAMILIES, LABELS, tiny_tokenizer

from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.errors import UnsupportedModel
from mlflow_edit.models.architecture import families, locate, task_of
from mlflow_edit.models.base_model import BaseModel


def unknown(config: str, model: str, **fields: Any) -> BaseModel:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    made = getattr(transformers, config)(vocab_size=len(tokenizer), **fields)
    network = getattr(transformers, model)(made).eval().requires_grad_(False)
    return BaseModel(network, tokenizer, "0" * 64)


UNKNOWN = {
    "phi": ("PhiConfig", "PhiForCausalLM", COMMON, "model.layers.1", "model"),
    "bloom": (
        "BloomConfig",
        "BloomForCausalLM",
        {"hidden_size": 64, "n_layer": 4, "n_head": 4, "initializer_range": 0.15},
        "transformer.h.1",
        "transformer",
    ),
    "electra": (
        "ElectraConfig",
        "ElectraForSequenceClassification",
        {**COMMON, "embedding_size": 64, **LABELS},
        "electra.encoder.layer.1",
        "electra",
    ),
    "bart": (
        "BartConfig",
        "BartForConditionalGeneration",
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 4,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": CONTEXT,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "init_std": 0.15,
        },
        "model.decoder.layers.1",
        "model.decoder",
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_the_table_names_blocks_of_every_family(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    site = locate(base.model)
    assert site.family.task == base.task == task_of(base.model)
    assert site.n_layers == 4
    assert len(base.model.get_submodule(site.layers)) == 4
    assert locate(base.model, site.index) == site
    assert locate(base.model, str(site.index)) == site
    assert locate(base.model, site.layer) == site


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_is_edited_below_the_last_block(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    assert locate(base.model).index == (3 if base.task == "classifier" else 2)


def test_model_types_are_listed_once_for_each_task() -> None:
    listed = [(family.task, kind) for family in families() for kind in family.model_types]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("layer", [4, "4", -1, "-1", 99])
def test_a_number_that_is_out_of_range_is_refused(tiny_bases: Any, layer: Any) -> None:
    with pytest.raises(UnsupportedModel, match=r"out of range: the model has 4 blocks, 0 to 3"):
        locate(tiny_bases["llama"].model, layer)


@pytest.mark.parametrize(
    "layer",
    [
        "model.layers.4",
        "model.layers",
        "model.layers.-1",
        "lm_head",
        "nowhere.0",
        "model.0",
        ".",
        "a.b",
        "model.layers.1.mlp",
        "model.layers.²",
        "²",
        "model.norm.0",
        "+1",
        "1.5",
    ],
)
def test_a_path_to_no_block_is_refused(tiny_bases: Any, layer: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        locate(tiny_bases["llama"].model, layer)
    assert caught.value.exit_code == 8


@pytest.mark.parametrize("layer", ["encoder.block.1", "encoder.block.0"])
def test_an_encoder_of_an_encoder_decoder_is_refused(tiny_bases: Any, layer: str) -> None:
    with pytest.raises(UnsupportedModel, match="decoder") as caught:
        locate(tiny_bases["t5"].model, layer)
    assert "decoder" in str(caught.value.hint)


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_model_in_no_table_needs_a_path(name: str) -> None:
    config, model, fields, path, stack = UNKNOWN[name]
    base = unknown(config, model, **fields)
    for layer in (None, 1, "1"):
        with pytest.raises(UnsupportedModel, match="not in the table") as caught:
            locate(base.model, layer)
        assert repr(name) in caught.value.message
        assert f"{path.rpartition('.')[0]}." in str(caught.value.hint)
    site = locate(base.model, path)
    assert (site.layer, site.family.stack, site.index) == (path, stack, 1)


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_model_in_no_table_is_edited_at_a_path(name: str) -> None:
    config, model, fields, path, _ = UNKNOWN[name]
    base = unknown(config, model, **fields)
    batch = batch_for(base, n=4 if base.task == "classifier" else 1)
    learning = find_editor("grace", {"layer": path, "max_steps": 30}).learn(base, batch, silent)
    assert learning.patch.layer == path
    if base.task == "classifier":
        assert all(outcome.solved for outcome in learning.outcomes)
        from mlflow_edit.evaluation.generation import generate_answers

        with edited_with(base, learning.patch) as edited:
            prompts = [edit.prompt for edit in batch]
            answers = generate_answers(edited, prompts, max_new_tokens=1)
        fired = [answer.fired.edit_id for answer in answers if answer.fired]
        assert fired == [edit.id for edit in batch]
