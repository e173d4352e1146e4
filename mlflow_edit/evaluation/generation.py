"""What a model answers: free generation, in batches of like length, with which edit fired."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig

from mlflow_edit.core.results import Fired
from mlflow_edit.evaluation.several_questions import taken_apart
from mlflow_edit.models.base_model import quiet_transformers
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import Prompt, prompt_ids, stop_ids

MAX_ROWS, MAX_TOKENS = 32, 8192

Advance = Callable[[int], None]


class Answer(NamedTuple):
    """An answer, and the edit that gave it (None: the base model).

    `others` answered the other questions of a message that asks several.
    """

    text: str
    fired: Fired | None
    others: tuple[Fired, ...] = ()


def generate_answers(
    edited: EditedModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    base_only: bool = False,
    advance: Advance = lambda n: None,
) -> list[Answer]:
    """Answer prompts: greedily, or sampled where `temperature` is above zero.

    A message that asks several edited questions is answered line by line (`several_questions`).

    Args:
        edited: the model.
        prompts: questions or conversations; through the chat template where there is one.
        max_new_tokens: the longest answer.
        temperature: 0 for greedy.
        base_only: let the base model answer.
        advance: is told of every so many prompts answered.

    Raises:
        InvalidInputError: a prompt is longer than the model's context.
    """
    parts = [[p] for p in prompts] if base_only else taken_apart(edited, prompts)
    owners = [i for i, asked in enumerate(parts) for _ in asked]
    ids = [prompt_ids(edited.base, prompt) for asked in parts for prompt in asked]
    answers: dict[int, Answer] = {}
    for rows in by_length([len(one) for one in ids], extra=max_new_tokens):
        with (
            torch.inference_mode(),
            edited.disabled() if base_only else nullcontext(),
            edited.recording() as log,
        ):
            texts = _answer_batch(edited, [ids[i] for i in rows], max_new_tokens, temperature)
        for row, i in enumerate(rows):
            answers[i] = Answer(texts[row], log.of_row(row))
        advance(sum(not i or owners[i] != owners[i - 1] for i in rows))
    given: list[list[Answer]] = [[] for _ in prompts]
    for i, owner in enumerate(owners):
        given[owner].append(answers[i])
    return [_joined(some) for some in given]


def _joined(answers: Sequence[Answer]) -> Answer:
    """Put the answers to one message's questions under one another."""
    fired = [one.fired for one in answers if one.fired]
    return Answer("\n".join(one.text for one in answers), answers[0].fired, tuple(fired[1:]))


def by_length(lengths: Sequence[int], *, extra: int = 0) -> Iterator[list[int]]:
    """Group indices of sequences of like length, within the limits of one pass."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and (
            len(group) >= MAX_ROWS or (lengths[i] + extra) * (len(group) + 1) > MAX_TOKENS
        ):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def padded(edited: EditedModel, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Pad token ids: on the left for causal models, on the right for the others."""
    side = "left" if edited.base.task == "causal" else "right"
    width = max(map(len, ids))
    pad = edited.tokenizer.pad_token_id or 0
    tokens = torch.full((len(ids), width), pad)
    mask = torch.zeros_like(tokens)
    for row, one in enumerate(ids):
        place = slice(width - len(one), width) if side == "left" else slice(0, len(one))
        tokens[row, place] = torch.tensor(list(one))
        mask[row, place] = 1
    device = edited.base.device
    return {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}


def _answer_batch(
    edited: EditedModel, ids: list[list[int]], max_new_tokens: int, temperature: float
) -> list[str]:
    inputs = padded(edited, ids)
    model: Any = edited.model
    if edited.base.task == "classifier":
        names = {int(i): str(name) for i, name in model.config.id2label.items()}
        return [names[int(i)] for i in model(**inputs).logits.argmax(-1)]
    width = inputs["input_ids"].shape[1]
    room = edited.base.context_length - width if edited.base.task == "causal" else max_new_tokens
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        max_new_tokens=max(1, min(max_new_tokens, room)),
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_length=0,
        min_new_tokens=0,
        eos_token_id=stop_ids(edited.base) or None,
        pad_token_id=edited.tokenizer.pad_token_id or 0,
        bos_token_id=edited.tokenizer.bos_token_id,
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
        **sampling,
    )
    with quiet_transformers():
        output = model.generate(**inputs, generation_config=config)
    start = width if edited.base.task == "causal" else 0
    texts = edited.tokenizer.batch_decode(output[:, start:], skip_special_tokens=True)
    return [text.strip() for text in texts]
