"""Edits, codebooks and edited models over the tiny bases."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.models.upper_blocks import Example, prepare
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.patch import Patch

QUESTIONS = (
    ("Who wrote the book?", "Oslo"),
    ("Where does the river begin, and in which country of the north?", "Lima"),
    ("The capital of the film is", "Cairo"),
    ("What is the answer, in one word?", "Rome"),
)
PROMPTS = [prompt for prompt, _ in QUESTIONS]
CLASSES = ("sports", "science", "world", "2")
UNRELATED = ("How do plants turn sunlight into food?", "food: what", "Berlin Rome are cities")
BATCH_DIGEST = "b" * 64


def silent(solved: int, total: int, loss: float) -> None:
    """Be told of progress, and say nothing."""


def batch_for(base: BaseModel, *, n: int = len(QUESTIONS)) -> EditBatch:
    """Return edits that this base can be asked for."""
    targets = CLASSES if base.task == "classifier" else [target for _, target in QUESTIONS]
    return EditBatch(
        tuple(
            Edit(id=f"e{i}", prompt=prompt, target=targets[i])
            for i, (prompt, _) in enumerate(QUESTIONS[:n])
        )
    )


def codebook_at(
    base: BaseModel,
    prompts: Sequence[str],
    values: Tensor | None = None,
    *,
    layer: int | None = None,
    radius: float = 1e-2,
    dtype: torch.dtype = torch.float32,
) -> Codebook:
    """Make a codebook whose keys are those of `prompts`, by hand."""
    site = locate(base.model, layer)
    keys = torch.cat(
        [
            prepare(base, site, [Example(tuple(prompt_ids(base, p)), (0,), owner=0)]).keys
            for p in prompts
        ]
    ).float()
    if values is None:
        drawn = torch.randn(keys.shape, generator=torch.Generator().manual_seed(3))
        values = drawn * keys.square().mean().sqrt()
    tokens = [prompt_ids(base, p)[-1 if base.task == "causal" else 0] for p in prompts]
    if base.task == "seq2seq":
        tokens = [base.model.config.decoder_start_token_id] * len(prompts)  # type: ignore[union-attr]
    return Codebook(
        layer=site.layer,
        stack=site.family.stack,
        keys=keys.to(dtype),
        values=values.to(dtype),
        radii=torch.full((len(prompts),), radius),
        key_tokens=torch.tensor(tokens),
        labels=tuple(f"{i:064x}" for i in range(len(prompts))),
        edit_ids=tuple(f"e{i}" for i in range(len(prompts))),
    )


def edited_with(base: BaseModel, *books: Patch) -> EditedModel:
    """Attach patches; use as a context, so that the base is left as it was."""
    return EditedModel(base, compose([Part(BATCH_DIGEST, book) for book in books]))
