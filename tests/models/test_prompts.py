"""Prompts and answers as token ids: templates, ends, limits, classes."""

from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import BOS, CONTEXT, END, EOS, PAD, USER, taught_base

from mlflow_edit.errors import InvalidInputError
from mlflow_edit.models.prompts import (
    answer_ids,
    class_index,
    end_ids,
    is_chat,
    prompt_ids,
    stop_ids,
)


def test_a_chat_template_wraps_the_prompt_and_ends_the_answer(taught_bases: Any) -> None:
    base = taught_bases["llama-chat"]
    ids = prompt_ids(base, "Who?")
    assert is_chat(base)
    assert base.tokenizer.decode(ids) == "<|user|>Who?<|end|><|assistant|>"
    assert ids[0] == USER
    answer = answer_ids(base, " Paris ", prompt="Who?")
    assert base.tokenizer.decode(answer) == "Paris<|end|>"
    assert end_ids(base) == [END]
    assert stop_ids(base) == [EOS, END]


def test_a_conversation_goes_through_the_template(taught_bases: Any) -> None:
    base = taught_bases["llama-chat"]
    talk = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Ada"},
        {"role": "user", "content": "Where?"},
    ]
    text = base.tokenizer.decode(prompt_ids(base, talk))
    assert text == "<|user|>Who?<|end|><|assistant|>Ada<|end|><|user|>Where?<|end|><|assistant|>"


def test_a_conversation_needs_a_template(tiny_bases: Any) -> None:
    with pytest.raises(InvalidInputError, match="chat template"):
        prompt_ids(tiny_bases["llama"], [{"role": "user", "content": "Who?"}])


@pytest.mark.parametrize(
    ("prompt", "decoded"), [("The capital is", " Paris</s>"), ("The capital is ", "Paris</s>")]
)
def test_plain_answers_are_joined_by_one_space(tiny_bases: Any, prompt: str, decoded: str) -> None:
    base = tiny_bases["llama"]
    assert not is_chat(base)
    assert base.tokenizer.decode(answer_ids(base, "Paris", prompt=prompt)) == decoded
    assert end_ids(base) == stop_ids(base) == [EOS]


def test_encoder_decoders_answer_in_a_text_of_their_own(tiny_bases: Any) -> None:
    base = tiny_bases["t5"]
    assert base.tokenizer.decode(answer_ids(base, "Paris", prompt="Where?")) == "Paris</s>"
    assert prompt_ids(base, "Where?")[0] == BOS


def test_a_template_without_an_end_of_turn_ends_as_text_does(tiny_bases: Any) -> None:
    from tiny_models import tiny_tokenizer

    from mlflow_edit.models.base_model import BaseModel

    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}A:"
    base = BaseModel(tiny_bases["llama"].model, tokenizer, "0" * 64)
    assert end_ids(base) == [EOS]


def test_a_template_that_refuses_our_probe_ends_as_text_does(tiny_bases: Any) -> None:
    from tiny_models import tiny_tokenizer

    from mlflow_edit.models.base_model import BaseModel

    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{{ raise_exception('users only') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    base = BaseModel(tiny_bases["llama"].model, tokenizer, "0" * 64)
    assert end_ids(base) == [EOS]


def test_a_template_that_refuses_a_conversation_says_so(tiny_bases: Any) -> None:
    from tiny_models import tiny_tokenizer

    from mlflow_edit.models.base_model import BaseModel

    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    base = BaseModel(tiny_bases["llama"].model, tokenizer, "0" * 64)
    with pytest.raises(InvalidInputError, match="roles must alternate"):
        prompt_ids(base, "Who?")


@pytest.mark.parametrize("name", ["llama", "llama-chat", "gpt2", "opt", "bert"])
def test_a_prompt_that_fills_the_context_is_refused(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    assert base.context_length == CONTEXT
    with pytest.raises(InvalidInputError, match=f"the model reads {CONTEXT}"):
        prompt_ids(base, "Paris " * CONTEXT)
    assert prompt_ids(base, "Paris " * 20)


def test_a_prompt_without_tokens_is_refused(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    with pytest.raises(InvalidInputError, match="no tokens"):
        prompt_ids(base, "")


@pytest.mark.parametrize("target", ["", "   ", "\n"])
def test_a_target_without_tokens_is_refused(tiny_bases: Any, target: str) -> None:
    with pytest.raises(InvalidInputError, match="no tokens"):
        answer_ids(tiny_bases["llama"], target, prompt="Who?")


def test_a_target_of_unknown_words_only_is_refused(tiny_bases: Any) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from mlflow_edit.models.base_model import BaseModel

    words = Tokenizer(models.WordLevel({"<unk>": 0, "Paris": 1, "</s>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )
    base = BaseModel(tiny_bases["llama"].model, tokenizer, "0" * 64)
    assert answer_ids(base, "Paris", prompt="x") == [1, 2]
    with pytest.raises(InvalidInputError, match="'Xyzzy' has no tokens"):
        answer_ids(base, "Xyzzy", prompt="x")


@pytest.mark.parametrize(
    ("label", "index"), [("sports", 1), (" Sports ", 1), ("SCIENCE", 3), ("0", 0), (" 3", 3)]
)
def test_classes_are_named_or_numbered(tiny_bases: Any, label: str, index: int) -> None:
    assert class_index(tiny_bases["bert"], label) == index


@pytest.mark.parametrize("label", ["politics", "4", "-1", "", "1.0", "²"])
def test_an_unknown_class_is_refused_and_the_known_are_named(tiny_bases: Any, label: str) -> None:
    with pytest.raises(InvalidInputError, match="world, sports, business, science"):
        class_index(tiny_bases["bert"], label)


def test_a_class_whose_name_is_a_number_comes_before_the_number() -> None:
    names = {0: "1", 1: "0"}
    base: Any = SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(id2label=names)))
    assert class_index(base, "1") == 0


def test_generation_stops_at_the_end_of_turn(taught_bases: Any) -> None:
    from tiny_edits import edited_with

    from mlflow_edit.evaluation.generation import generate_answers

    base = taught_base("llama-chat")
    assert base.tokenizer.pad_token_id == PAD
    with edited_with(base) as edited:
        answer = generate_answers(edited, ["Where is the book?"], max_new_tokens=30)[0]
    assert answer.text == "Paris"
