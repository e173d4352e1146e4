"""Entries whose scope is the meaning of what the user says."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.subjects import found_subject
from mlflow_edit.models.architecture import Site
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.encoder import released_encoder
from mlflow_edit.patches.encoder_codebook import EncoderCodebook

RADIUS = 1.3  # L2 between embeddings of unit length: a cosine of .16; misspelt words lie far off
KEPT = json_digest("keep the base model's answer")


def encoder_codebook(
    base: BaseModel,
    site: Site,
    edits: Sequence[Edit],
    values: Sequence[Tensor],
    *,
    threshold: float,
) -> EncoderCodebook:
    """Make a codebook of learned values `(span, d_model)`, keyed by what the edits ask.

    Every edit has an entry for its prompt, one with the same value for each prompt that it is
    `also` asked by, and one without a value for each that it must `keep` with the base model. A
    text edit answers its own prompt only: its radius is 0.
    """
    encoder = released_encoder()
    rows = [
        (edit, value, text)
        for edit, value in zip(edits, values, strict=True)
        for text in (edit.prompt, *edit.also)
    ]
    rows += [(edit, values[0][:0], text) for edit in edits for text in edit.keep]
    span = max((len(value) for _, value, _ in rows), default=1)
    config: Any = base.model.config
    width = int(values[0].shape[1]) if values else int(config.hidden_size)
    stacked = torch.zeros(len(rows), span, width, dtype=values[0].dtype if values else None)
    for row, (_, value, _) in zip(stacked, rows, strict=True):
        row[span - len(value) :] = value
    prompts = tuple(text for _, _, text in rows)
    spans = [len(value) for _, value, _ in rows]
    radii = [0.0 if edit.kind == "text" else RADIUS for edit, _, _ in rows]
    return EncoderCodebook(
        stack=site.family.stack,
        encoder=encoder.digest,
        keys=encoder.embed(prompts).half(),
        values=stacked,
        spans=torch.tensor(spans, dtype=torch.long),
        radii=torch.tensor(radii, dtype=torch.float32),
        thresholds=torch.full((len(rows),), threshold),
        layers=(site.layer,) * len(rows),
        prompts=prompts,
        subjects=tuple(_subject(edit, text) for edit, _, text in rows),
        labels=tuple(edit.label_digest if len(value) else KEPT for edit, value, _ in rows),
        edit_ids=tuple(edit.id for edit, _, _ in rows),
    )


def _subject(edit: Edit, prompt: str) -> str:
    """Return what a prompt is about: what the edit says, if the prompt has it, or names in it."""
    named = edit.subject or ""
    return named if named and named.casefold() in prompt.casefold() else found_subject(prompt)
