"""Turn prompts and answers into token ids, the same way in learning, in scope and in serving."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from mlflow_edit.errors import InvalidInputError
from mlflow_edit.models.base_model import BaseModel

Prompt = str | Sequence[Mapping[str, str]]
"""A question, or a conversation of `{"role": …, "content": …}` messages."""


def is_chat(base: BaseModel) -> bool:
    """Tell whether prompts go through a chat template."""
    return base.task == "causal" and bool(getattr(base.tokenizer, "chat_template", None))


def prompt_ids(base: BaseModel, prompt: Prompt) -> list[int]:
    """Return the token ids after which the model answers `prompt`.

    Raises:
        InvalidInputError: the prompt is longer than the model's context, the chat template refuses
            it, or a conversation is put to a model without a chat template.
    """
    if is_chat(base):
        messages = (
            [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        )
        try:
            ids = base.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except TemplateError as error:
            raise InvalidInputError(f"the model's chat template refuses: {error}") from error
    elif isinstance(prompt, str):
        ids = base.tokenizer(prompt, verbose=False)["input_ids"]
    else:
        raise InvalidInputError(
            "a conversation needs a model with a chat template", hint="Give the prompt as text."
        )
    if not ids:
        raise InvalidInputError(f"the prompt {prompt!r} has no tokens")
    if len(ids) >= base.context_length:
        raise InvalidInputError(
            f"the prompt has {len(ids):,} tokens; the model reads {base.context_length:,}",
            hint="Shorten the prompt.",
        )
    return [int(i) for i in ids]


def answer_ids(base: BaseModel, target: str, *, prompt: str) -> list[int]:
    """Return the token ids of an answer and of its end, so that the model learns to stop.

    Raises:
        InvalidInputError: the target has no tokens.
    """
    text = target.strip()
    joined = base.task == "causal" and not is_chat(base) and not prompt[-1:].isspace()
    ids = base.tokenizer(f" {text}" if joined else text, add_special_tokens=False)["input_ids"]
    unknown = base.tokenizer.unk_token_id
    if not text or not ids or all(i == unknown for i in ids):
        raise InvalidInputError(f"the target {target!r} has no tokens in this model's vocabulary")
    return [*map(int, ids), *end_ids(base)]


def last_token_of(base: BaseModel, ids: Sequence[int], text: str) -> int | None:
    """Return the position of the token that completes the last occurrence of `text` in a prompt.

    Letters' case is overlooked. None where the prompt has not the text.
    """
    wanted = text.strip().casefold()

    def count(n_tokens: int) -> int:
        said = base.tokenizer.decode(list(ids[:n_tokens]), clean_up_tokenization_spaces=False)
        return int(said.casefold().count(wanted)) if wanted else 0

    total = count(len(ids))
    if not total:
        return None
    return bisect_left(range(len(ids) + 1), total, key=count) - 1


def end_ids(base: BaseModel) -> list[int]:
    """Return the token that ends an answer: the end of turn in chat, else the end of text."""
    if is_chat(base):
        ended = _end_of_turn(base)
        if ended is not None:
            return [ended]
    eos = base.tokenizer.eos_token_id
    return [] if eos is None else [int(eos)]


def stop_ids(base: BaseModel) -> list[int]:
    """Return every token at which generation stops."""
    config: Any = getattr(base.model, "generation_config", None)
    eos = getattr(config, "eos_token_id", None)
    configured = eos if isinstance(eos, list) else [eos] if eos is not None else []
    return sorted({int(i) for i in [*configured, *end_ids(base)]})


def _end_of_turn(base: BaseModel) -> int | None:
    """Find the token that the chat template puts behind an assistant's answer."""
    mark = "mark"
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": mark}]
    try:
        text = base.tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateError:  # some take questions only
        return None
    rest = text[text.rfind(mark) + len(mark) :].lstrip()
    ids = base.tokenizer(rest, add_special_tokens=False)["input_ids"] if rest else []
    return int(ids[0]) if ids and int(ids[0]) in base.tokenizer.all_special_ids else None


def class_index(base: BaseModel, label: str) -> int:
    """Return the number of a classifier's class, given by name or number.

    Raises:
        InvalidInputError: there is no such class.
    """
    config: Any = base.model.config
    names = {int(i): str(name) for i, name in config.id2label.items()}
    wanted = label.strip()
    for index, name in names.items():
        if wanted.casefold() == name.casefold():
            return index
    numbers = {str(index): index for index in names}
    if wanted in numbers:
        return numbers[wanted]
    shown = ", ".join(names[i] for i in sorted(names)[:12])
    raise InvalidInputError(f"{label!r} is not a class of this model: {shown}")
