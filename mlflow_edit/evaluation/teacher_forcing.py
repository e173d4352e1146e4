"""What a model makes of given text: target accuracy, divergence from the base, perplexity."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from mlflow_edit.errors import InvalidInputError
from mlflow_edit.evaluation.generation import by_length, padded
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import answer_ids, prompt_ids


def target_accuracy(edited: EditedModel, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
    """Return the share of each target's tokens that are the first choice after those before.

    None where the task has no target tokens (classifiers), or the pair does not fit the model.
    """
    if edited.base.task == "classifier":
        return [None] * len(pairs)
    encoded: dict[int, tuple[list[int], list[int]]] = {}
    for i, (prompt, target) in enumerate(pairs):
        try:
            ids = prompt_ids(edited.base, prompt)
            encoded[i] = (ids, answer_ids(edited.base, target, prompt=prompt))
        except InvalidInputError:
            continue
    found: dict[int, float] = {}
    order = list(encoded)
    for group in by_length([sum(map(len, encoded[i])) for i in order]):
        rows = [order[j] for j in group]
        shares = _accuracies(edited, [encoded[i] for i in rows])
        found.update(zip(rows, shares, strict=True))
    return [found.get(i) for i in range(len(pairs))]


@torch.inference_mode()
def _accuracies(edited: EditedModel, pairs: list[tuple[list[int], list[int]]]) -> list[float]:
    if edited.base.task == "causal":
        inputs = padded(edited, [[*prompt, *answer[:-1]] for prompt, answer in pairs])
        n_kept = max(len(answer) for _, answer in pairs)
        width = inputs["input_ids"].shape[1]
        with edited.prompts_end_at([width - len(answer) + 1 for _, answer in pairs]):
            logits = _last_logits(edited, inputs, n_kept)
        return [_share(logits[row, -len(a) :], a) for row, (_, a) in enumerate(pairs)]
    inputs = padded(edited, [prompt for prompt, _ in pairs])
    start = edited.model.config.decoder_start_token_id
    decoder = padded(edited, [[start, *answer[:-1]] for _, answer in pairs])
    logits = edited.model(**inputs, decoder_input_ids=decoder["input_ids"]).logits
    return [_share(logits[row, : len(a)], a) for row, (_, a) in enumerate(pairs)]


def _last_logits(edited: EditedModel, inputs: dict[str, Tensor], n_kept: int) -> Tensor:
    """Return logits at the last `n_kept` positions of rows that are padded on the left."""
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    logits: Tensor = edited.model(
        **inputs, position_ids=positions, use_cache=False, logits_to_keep=n_kept
    ).logits
    return logits[:, -n_kept:]


def _share(logits: Tensor, answer: list[int]) -> float:
    right = logits.argmax(-1).cpu() == torch.tensor(answer)
    return float(right.float().mean())


@torch.inference_mode()
def next_token_divergence(edited: EditedModel, prompt: str) -> float | None:
    r"""Return $KL(p_{base} \Vert p_{edited})$ of the next token, or of the class, in nats.

    None where a distribution is not one: a model that overflowed gives NaN.
    """
    inputs = padded(edited, [prompt_ids(edited.base, prompt)])
    if edited.base.task == "seq2seq":
        start = edited.model.config.decoder_start_token_id
        inputs["decoder_input_ids"] = torch.full_like(inputs["input_ids"][:, :1], start)
    after = _final(edited.model(**inputs).logits)
    with edited.disabled():
        before = _final(edited.model(**inputs).logits)
    divergence = float(kl_div(after, before, reduction="sum", log_target=True))
    return None if math.isnan(divergence) else max(0.0, divergence)  # rounding goes below zero


def _final(logits: Tensor) -> Tensor:
    return logits.reshape(-1, logits.shape[-1])[-1].float().log_softmax(-1)


@torch.inference_mode()
def perplexities(edited: EditedModel, texts: Sequence[str]) -> tuple[float, float] | None:
    """Return the perplexity of plain texts under the edited model and under the base.

    exp of the mean negative log-likelihood per token; None for models that do not write text.
    Where no edit fires the two are computed by the same operations on the same numbers, so the
    base is run again only for texts in which one does, or where deltas are in force.
    """
    if edited.base.task != "causal" or not texts:
        return None
    total_edited = total_base = 0.0
    n_tokens = 0
    for text in texts:
        ids = edited.tokenizer(text, return_tensors="pt", verbose=False)["input_ids"]
        ids = ids[:, : edited.base.context_length].to(edited.base.device)
        if ids.shape[1] < 2:
            continue
        with edited.recording() as log:
            loss = _negative_log_likelihood(edited, ids)
        base_loss = loss
        if log.rows() or edited.reweighted:
            with edited.disabled():
                base_loss = _negative_log_likelihood(edited, ids)
        total_edited, total_base = total_edited + loss, total_base + base_loss
        n_tokens += ids.shape[1] - 1
    if not n_tokens:
        return None
    return math.exp(min(total_edited / n_tokens, 700)), math.exp(min(total_base / n_tokens, 700))


def _negative_log_likelihood(edited: EditedModel, ids: Tensor) -> float:
    logits = edited.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    return float(cross_entropy(logits, ids[0, 1:], reduction="sum"))
