"""A sentence encoder that knows words only: quick, exact, and good enough to hold laws against."""

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.scope import Query, Question

WIDTH = 64
IDLE = frozenset(["a", "an", "the", "of", "in", "is", "was", "please", "hey", "me", "tell"])


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold())) - IDLE


class WordEncoder:
    """Two texts ask the same as far as they share words; `asked` counts what it was asked."""

    digest = "d" * 64

    def __init__(self) -> None:
        self.asked = 0

    def embed(self, texts: Sequence[str]) -> Tensor:
        self.asked += len(texts)
        found = torch.zeros(len(texts), WIDTH)
        for row, text in zip(found, texts, strict=True):
            for word in words(text):
                row[zlib.crc32(word.encode()) % WIDTH] += 1
        return normalize(found + 1e-3, dim=1)

    def match(self, questions: Sequence[Question], queries: Sequence[Query]) -> Tensor:
        found = []
        for question, query in zip(questions, queries, strict=True):
            wanted, said = words(question.text), words(query.text)
            if query.earlier and not wanted & said:
                said |= words(query.earlier)
            found.append(len(wanted & said) / max(1, len(wanted | said)))
        return torch.tensor(found)


def semantic_book(
    base: BaseModel,
    prompts: Sequence[str],
    *,
    spans: Sequence[int] | None = None,
    layer: int = 1,
    threshold: float = 0.6,
    radius: float = 1.2,
    edit_ids: Sequence[str] | None = None,
    seed: int = 3,
) -> EncoderCodebook:
    """Make a codebook of random values, asked by `prompts`."""
    from mlflow_edit.models.architecture import locate

    site = locate(base.model, layer)
    n, spans = len(prompts), list(spans or [1] * len(prompts))
    width = base.model.config.hidden_size  # type: ignore[union-attr]
    drawn = torch.randn((n, max([1, *spans]), width), generator=torch.Generator().manual_seed(seed))
    for row, span in zip(drawn, spans, strict=True):
        row[: drawn.shape[1] - span] = 0
    return EncoderCodebook(
        stack=site.family.stack,
        encoder=WordEncoder.digest,
        keys=WordEncoder().embed(prompts),
        values=drawn,
        spans=torch.tensor(spans),
        radii=torch.full((n,), radius),
        thresholds=torch.full((n,), threshold),
        layers=(site.layer,) * n,
        prompts=tuple(prompts),
        subjects=("",) * n,
        labels=tuple(f"{seed:032x}{i:032x}" for i in range(n)),
        edit_ids=tuple(edit_ids or [f"e{i}" for i in range(n)]),
    )


def edited_by_meaning(base: BaseModel, *books: EncoderCodebook) -> EditedModel:
    """Attach codebooks whose encoder is a `WordEncoder`; use as a context."""
    encoder = WordEncoder()
    parts = [Part(f"{i:064x}", book) for i, book in enumerate(books)]
    return EditedModel(base, compose(parts), encoders=lambda digest: encoder)
