"""The sentence encoder of scopes: all-MiniLM-L6-v2, and a low-rank scope head that ships with us.

The encoder embeds texts (Reimers & Gurevych 2019, arXiv:1908.10084; mean of the last hidden
states, unit length). With the head's deltas merged into its blocks it reads an edit's prompt and
what a user says *together*, as a cross-encoder, and tells whether both ask the same.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mlflow_edit.core.digest import bytes_digest
from mlflow_edit.core.spelling import respelled
from mlflow_edit.core.subjects import asks_otherwise, subject_features
from mlflow_edit.errors import DigestMismatch, UnsupportedFormat
from mlflow_edit.models.base_digest import base_digest
from mlflow_edit.models.base_files import find_base
from mlflow_edit.models.base_model import quiet_transformers
from mlflow_edit.models.cache import cache_folder
from mlflow_edit.models.minilm import minilm_folder
from mlflow_edit.models.scope_head import read_scope_head
from mlflow_edit.models.wheels import scratch_folder
from mlflow_edit.patches.scope import Query, Question

MAX_PASSAGE, MAX_PROMPT, MAX_TEXT, MAX_EARLIER = 128, 64, 128, 64  # tokens
MAX_ROWS = 64
HEAD = "scope_head.safetensors"


class Embedder:
    """Reads one text at a time."""

    def __init__(self, weights: Path, tokenizer: Path | None = None) -> None:
        self.tokenizer, self.model = _load(weights, tokenizer or weights)
        self._tokens("")  # a tokenizer that is told to truncate must not be at work in a thread

    def _tokens(self, text: str) -> list[int]:
        found = self.tokenizer(text, truncation=True, max_length=MAX_PASSAGE)["input_ids"]
        return list(found)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings of unit length, `(n_texts, d_key)` float32."""
        rows = [self._tokens(text) for text in texts]
        found = torch.empty(len(rows), self.model.config.hidden_size)
        for part in _by_length(rows):
            ids, mask = _padded([rows[i] for i in part])
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            found[part] = normalize(_mean(hidden, mask), dim=1)
        return found


class CrossReader:
    """Reads `[CLS] question [SEP] text [SEP] earlier [SEP]`."""

    def __init__(self, weights: Path, tokenizer: Path | None = None) -> None:
        self.tokenizer, self.model = _load(weights, tokenizer or weights)
        self._known = frozenset(self.tokenizer.get_vocab())

    def read(self, questions: Sequence[Question], queries: Sequence[Query]) -> Tensor:
        """Return for each pair the first state, the mean of all, and how far subjects agree.

        `(n, 2 d_model + 6)`; gradients pass. Misspelt words are read as the question's.
        """
        both = [
            (question, self._respelled(query, question))
            for question, query in zip(questions, queries, strict=True)
        ]
        rows, kinds = zip(*(self._tokens(*one) for one in both), strict=True)
        ids, mask = _padded(rows)
        types, _ = _padded(kinds)
        output = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)
        about = [subject_features(q.subject, query.text, query.earlier) for q, query in both]
        hidden = output.last_hidden_state
        return torch.cat([hidden[:, 0], _mean(hidden, mask), torch.tensor(about)], dim=1)

    def _respelled(self, query: Query, question: Question) -> Query:
        like = f"{question.text} {question.subject}"
        text, earlier = (respelled(said, like, self._known.__contains__) for said in query)
        return Query(text, earlier)

    def _tokens(self, question: Question, query: Query) -> tuple[list[int], list[int]]:
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id

        def ids(text: str) -> list[int]:
            found = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            return list(found)

        first = [start, *ids(question.text)[:MAX_PROMPT], end]
        then = [*ids(query.text)[:MAX_TEXT], end]
        before = [*ids(query.earlier)[-MAX_EARLIER:], end] if query.earlier else []
        return [*first, *then, *before], [0] * len(first) + [1] * (len(then) + len(before))


class SentenceEncoder:
    """An encoder (see `patches.scope.Encoder`), named by the digest of all its files.

    Args:
        folder: weights and tokenizer of the encoder, and its scope head.
        digest: what it must be; None accepts any.

    Raises:
        DigestMismatch: the folder holds another encoder.
    """

    def __init__(self, folder: Path, *, digest: str | None = None) -> None:
        folders = find_base(folder)
        self.digest = base_digest(folders.weights, folders.tokenizer)
        if digest not in (None, self.digest):
            raise DigestMismatch(
                f"the sentence encoder in {folder} has digest {self.digest[:12]}, "
                f"expected {str(digest)[:12]}",
                hint="Its files were changed or damaged. Remove a cached copy; it comes back.",
            )
        head = read_scope_head((folders.weights / HEAD).read_bytes())
        self._embedder = Embedder(folders.weights, folders.tokenizer)
        self._reader = CrossReader(folders.weights, folders.tokenizer)
        self._reader.model.embeddings = self._embedder.model.embeddings  # one copy in memory
        head.merge_into(self._reader.model.encoder)
        self._weight, self._bias = head.weight, head.bias

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings of unit length, `(n_texts, 384)` float32."""
        return self._embedder.embed(texts)

    @torch.inference_mode()
    def match(self, questions: Sequence[Question], queries: Sequence[Query]) -> Tensor:
        """Return the probability that each query asks what its question asks, `(n,)`.

        It is 0 where both hold numbers and none in common, where a verb is turned round or a word
        is negated, and where texts are not Latin: the encoder reads those badly.
        """
        lengths = [len(q.text) + len(t.text) for q, t in zip(questions, queries, strict=True)]
        found = torch.empty(len(lengths))
        for part in _by_length([range(n) for n in lengths]):
            read = self._reader.read([questions[i] for i in part], [queries[i] for i in part])
            found[part] = (read @ self._weight + self._bias).sigmoid()
        for i, (question, query) in enumerate(zip(questions, queries, strict=True)):
            if asks_otherwise(question.subject, question.text, query.text):
                found[i] = 0
        return found.round(decimals=4)  # as a batch goes, the last digits of float32 differ


@cache
def released_encoder() -> SentenceEncoder:
    """Return the encoder of this release; its weights are fetched on first use.

    Raises:
        NotFoundError: they cannot be fetched.
        DigestMismatch: what was fetched is not what is pinned.
    """
    found = SentenceEncoder(released_folder(cache_folder()))
    return _loaded.setdefault(found.digest, found)  # not loaded again where it is stored too


def released_folder(cache: Path) -> Path:
    """Return the folder with the encoder of this release, put together on first use."""
    data = (resources.files("mlflow_edit.models") / HEAD).read_bytes()
    target = cache / f"encoder-{bytes_digest(data)[:16]}"
    if not target.is_dir():
        weights = minilm_folder(cache)
        with scratch_folder(cache) as scratch:
            made = Path(shutil.copytree(weights, scratch / "encoder"))
            (made / HEAD).write_bytes(data)
            with suppress(OSError):  # somebody else was quicker
                os.replace(made, target)
    return target


def find_encoder(digest: str, stored: Callable[[str], Path | None]) -> SentenceEncoder:
    """Return the encoder of that digest: as it is stored with the versions, or this release's.

    Args:
        digest: of its files.
        stored: gives the folder of a stored encoder, None where there is none.

    Raises:
        UnsupportedFormat: it is not stored, and this release has another.
        DigestMismatch: what is stored is damaged.
    """
    if digest not in _loaded:
        folder = stored(digest)
        if folder is not None:
            _loaded[digest] = SentenceEncoder(folder, digest=digest)
        else:
            _loaded[digest] = sentence_encoder(digest)
    return _loaded[digest]


def sentence_encoder(digest: str) -> SentenceEncoder:
    """Return this release's encoder, if it has that digest.

    Raises:
        UnsupportedFormat: it has not.
    """
    found = released_encoder()
    if found.digest != digest:
        raise UnsupportedFormat(
            f"the edits were learned with the sentence encoder {digest[:12]}; "
            f"this release has {found.digest[:12]}",
            hint="Load them from the registry that they were applied in, or apply them again.",
        )
    return found


_loaded: dict[str, SentenceEncoder] = {}


def _load(weights: Path, tokens: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(tokens)
        model: Any = AutoModel.from_pretrained(weights, dtype=torch.float32)
    return tokenizer, model.eval()


def _by_length(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    return [order[i : i + MAX_ROWS] for i in range(0, len(order), MAX_ROWS)]


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask[..., None].float()
    return (hidden * weights).sum(1) / weights.sum(1)
