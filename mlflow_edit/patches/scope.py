"""What a scope asks of the world: the questions that are put to a model, and what texts mean.

A scope decides whether an input is inside an edit. GRACE's (`patches.codebook`) looks at the
model's own hidden state; the encoder's (`patches.encoder_codebook`) at what the user says. The
latter needs the two parts that are described here and made in `models`.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

ScopeKind = Literal["hidden", "encoder"]

MAX_SENTENCES = 24
_BREAK = re.compile(r"(?<=[.?!;\n])\s+")


class Question(NamedTuple):
    """What an entry is asked by, and the subject that it names, if any."""

    text: str
    subject: str = ""


class Query(NamedTuple):
    """What a user says last, and what the same user said before in the conversation."""

    text: str
    earlier: str = ""

    def sentences(self) -> list[str]:
        """Return the sentences of what is said last, at most the last `MAX_SENTENCES`."""
        parts = [part for part in _BREAK.split(self.text.strip()) if len(part) > 3]
        return parts[-MAX_SENTENCES:]

    def passages(self) -> list[str]:
        """Return the texts by which near entries are looked for: the whole, and its sentences."""
        sentences = self.sentences()
        parts = [self.text]
        if len(sentences) > 1:
            parts += sentences
        if self.earlier:
            parts += [f"{self.earlier} {self.text}", self.earlier]
        return parts


class Asked(NamedTuple):
    """A query, and the place of its key token: the model answers right behind it.

    `answering` tells whether it is the last of its row, whose answer is being generated.
    """

    row: int
    position: int
    query: Query
    answering: bool


class Encoder(Protocol):
    """Knows what texts mean. Named by the digest of its weights and of its scope head."""

    digest: str

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings of unit length, `(n_texts, d_key)` float32, on the CPU."""

    def match(self, questions: Sequence[Question], queries: Sequence[Query]) -> Tensor:
        """Return the probability that each query asks what its question asks, `(n,)`."""


class Reader(Protocol):
    """Knows where in a sequence of tokens a model is asked something."""

    def read(self, token_ids: Tensor, attention_mask: Tensor | None) -> list[Asked]:
        """Find the queries in token ids `(n_rows, n_positions)`."""


class Senses(Protocol):
    """What a patch may need beside the model: fetched when first asked for."""

    @property
    def reader(self) -> Reader:
        """The reader of the model's own prompts."""

    def encoder(self, digest: str) -> Encoder:
        """Return the encoder of that digest.

        Raises:
            UnsupportedFormat: there is none here.
        """
