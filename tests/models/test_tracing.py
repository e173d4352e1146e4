"""Causal tracing finds what restoring one hidden state gives back, and leaves no trace itself."""

from typing import Any

import pytest
import torch
from tiny_models import N_LAYERS, weights_hash

from mlflow_edit.errors import InvalidInputError, UnsupportedModel
from mlflow_edit.models.tracing import trace_layers

PROMPT = "Where is the river in Ada Lovelace ?"
SETTINGS: dict[str, Any] = {"n_samples": 4, "noise": 3.0, "seed": 0}


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gpt-neox", "llama-chat"])
def test_every_layer_has_an_effect(taught_bases: Any, name: str) -> None:
    base = taught_bases[name]
    before = weights_hash(base.model)
    found = trace_layers(base, PROMPT, "Ada Lovelace", **SETTINGS)
    assert len(found.effects) == N_LAYERS
    assert 0 <= found.noised <= 1
    assert found.clean > 0
    assert weights_hash(base.model) == before
    assert not any(module._forward_hooks for module in base.model.modules())
    assert trace_layers(base, PROMPT, "Ada Lovelace", **SETTINGS) == found


def test_a_subject_of_one_token_is_wholly_restored_by_the_first_block(taught_bases: Any) -> None:
    """Where the noise reaches the last token only, block 0 there carries all that is missing below.

    Later tokens read block 0's keys from the noised embedding, so that only restoring it at a
    subject that ends the prompt gives the whole answer back.
    """
    base = taught_bases["llama"]
    prompt = "Who wrote the book of Rome"
    found = trace_layers(base, prompt, "Rome", n_tokens=1, **SETTINGS)
    for effect in found.effects:
        assert found.noised + effect == pytest.approx(found.clean, abs=1e-4)


def test_the_token_that_hangs_most_on_the_subject_is_followed(taught_bases: Any) -> None:
    base = taught_bases["llama-chat"]
    first, most = (trace_layers(base, PROMPT, "Ada", n_tokens=n, **SETTINGS) for n in (1, 8))
    assert most.clean - most.noised >= first.clean - first.noised
    assert most.answer.casefold().strip() != "ada"


def test_no_noise_has_no_effect(taught_bases: Any) -> None:
    found = trace_layers(taught_bases["gpt2"], PROMPT, "Ada", n_samples=2, noise=1e-9, seed=0)
    assert found.noised == pytest.approx(found.clean, abs=1e-5)
    assert max(map(abs, found.effects)) < 1e-5


def test_noise_is_a_function_of_the_seed(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    torch.manual_seed(1)
    first = trace_layers(base, PROMPT, "Ada", n_samples=2, noise=3.0, seed=1)
    other = trace_layers(base, PROMPT, "Ada", n_samples=2, noise=3.0, seed=2)
    assert first != other


def test_what_cannot_be_traced_is_refused(taught_bases: Any) -> None:
    with pytest.raises(InvalidInputError, match="does not stand"):
        trace_layers(taught_bases["llama"], PROMPT, "Napoleon", **SETTINGS)
    with pytest.raises(UnsupportedModel, match="continue text"):
        trace_layers(taught_bases["t5"], PROMPT, "Ada", **SETTINGS)
