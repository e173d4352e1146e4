"""Find in a sequence of tokens where a model is asked something, and by which words.

In a chat template the tokens that open an assistant's turn mark every place where an answer
begins; what the user says stands before them. Nothing but the token ids is looked at, so that an
answer is the same with and without a cache, in a batch, beam or stream, and earlier turns are read
as they were when they were answered. A model without a template is asked by the whole prompt.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import is_chat
from mlflow_edit.patches.scope import Asked, Query, Reader

FIRST, REPLY, LAST = "qzfirstqz", "qzreplyqz", "qzlastqz"  # words that no template holds
EARLIER_TURNS = 3


def reader_of(base: BaseModel) -> Reader:
    """Return the reader of a base model's prompts."""
    if is_chat(base):
        marks = _marks(base.tokenizer)
        if marks is not None:
            return ChatReader(base.tokenizer, *marks)
    return PlainReader(base.tokenizer)


class PlainReader:
    """Take the whole of each row for a prompt, answered behind its last token.

    A forward call that continues a cached prompt is not a prompt. Where an answer stands behind the
    prompt in the same call, it must be said where prompts end: nothing in the text tells.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._thread = threading.local()

    @contextmanager
    def ending_at(self, ends: Sequence[int]) -> Iterator[None]:
        """Say for this thread at which column each row's prompt ends; one number is for all."""
        before = getattr(self._thread, "ends", None)
        self._thread.ends = ends
        try:
            yield
        finally:
            self._thread.ends = before

    def read(self, token_ids: Tensor, attention_mask: Tensor | None) -> list[Asked]:
        """Find the query of each row (see `patches.scope.Reader`)."""
        n_rows, n_positions = token_ids.shape
        ends = getattr(self._thread, "ends", None) or [n_positions]
        if n_positions == 1 and attention_mask is not None and attention_mask.shape[1] > 1:
            return []
        mask = torch.ones_like(token_ids)
        if attention_mask is not None and attention_mask.shape == token_ids.shape:
            mask = attention_mask
        elif attention_mask is not None and attention_mask.shape[1] > n_positions:
            return []  # it continues a cache
        found = []
        for row in range(n_rows):
            places = mask[row, : ends[row % len(ends)]].nonzero()[:, 0]
            if len(places):
                text = self._tokenizer.decode(token_ids[row, places], skip_special_tokens=True)
                found.append(Asked(row, int(places[-1]), Query(text.strip()), answering=True))
        return found


class ChatReader:
    """Take the users' turns of a conversation in a chat template.

    Args:
        tokenizer: the model's.
        opening: the token ids that end a user's turn and open the assistant's.
        user: the text that opens a user's turn.
    """

    def __init__(self, tokenizer: Any, opening: Sequence[int], user: str) -> None:
        self._tokenizer, self._opening, self._user = tokenizer, torch.tensor(opening), user

    def read(self, token_ids: Tensor, attention_mask: Tensor | None) -> list[Asked]:
        """Find the queries of each row (see `patches.scope.Reader`)."""
        width = len(self._opening)
        if token_ids.shape[1] < width:
            return []
        opening = self._opening.to(token_ids.device)
        hits = (token_ids.unfold(1, width, 1) == opening).all(-1)
        found = []
        for row in hits.any(1).nonzero()[:, 0].tolist():
            starts = hits[row].nonzero()[:, 0].tolist()
            said: list[str] = []
            begin = 0
            for start in starts:
                text = self._tokenizer.decode(token_ids[row, begin:start])
                before, user, last = text.rpartition(self._user)
                said.append(last.strip() if user else "")  # no user spoke: a tool, or the model
                begin = start + width
            for i, start in enumerate(starts):
                if not said[i]:
                    continue
                earlier = [text for text in said[max(0, i - EARLIER_TURNS) : i] if text]
                query = Query(said[i], " ".join(earlier))
                found.append(Asked(row, start + width - 1, query, answering=i == len(starts) - 1))
        return found


def _marks(tokenizer: Any) -> tuple[list[int], str] | None:
    """Return the ids that open an answer and the text that opens a question, if there are any."""
    turns = [
        {"role": "user", "content": FIRST},
        {"role": "assistant", "content": REPLY},
        {"role": "user", "content": LAST},
    ]
    try:
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except TemplateError:
        return None
    if not (text.count(FIRST) == text.count(REPLY) == text.count(LAST) == 1):
        return None
    before, between = text.partition(FIRST)[0], text.partition(REPLY)[2].partition(LAST)[0]
    opening = tokenizer(text.partition(LAST)[2], add_special_tokens=False)["input_ids"]
    user = _common_ending(before, between)
    return ([int(i) for i in opening], user) if opening and user.strip() else None


def _common_ending(one: str, other: str) -> str:
    n = 0
    while n < min(len(one), len(other)) and one[-n - 1] == other[-n - 1]:
        n += 1
    return one[len(one) - n :]
