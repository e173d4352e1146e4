"""Whether the entries of hidden-scope codebooks still find their prompts under the weights."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from mlflow_edit.core.content import Pair
from mlflow_edit.core.edit import Edit
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.models.upper_blocks import Example, prepare
from mlflow_edit.patches.codebook import Codebook

AT_ONCE = 32


class MovedKey(NamedTuple):
    """An entry whose own prompt no longer lies in its scope; L2 units of the key space."""

    batch: str
    edit: str
    distance: float
    radius: float

    @property
    def said(self) -> str:
        """Say it in words."""
        return (
            f"edit {self.edit} of batch {self.batch[:12]} no longer finds its prompt: the weights "
            f"below it moved the key by {self.distance:.2f}, beyond its radius {self.radius:.2f}"
        )


def moved_keys(edited: EditedModel, edits: Iterable[tuple[Pair, Edit]]) -> list[MovedKey]:
    """Find the entries whose prompts' keys other weights moved out of their radius.

    Keys were read under the weights of the version that their batch was learned on: deltas that
    came since move them, and so does the loss of those that were there. An encoder's scope does not
    depend on weights.

    Args:
        edited: the version's model.
        edits: its edits, by (batch, id).
    """
    known = dict(edits)
    books = [book for book in edited.composition.patches if isinstance(book, Codebook)]
    return sorted(found for book in books for found in _moved(edited, book, known))


def _moved(edited: EditedModel, book: Codebook, edits: dict[Pair, Edit]) -> list[MovedKey]:
    site = locate(edited.base.model, book.layer)
    batches = [edited.composition.batch_of[digest] for digest in book.entry_digests]
    radii = book.radii_in(next(edited.base.model.parameters()).dtype)
    found = []
    for start in range(0, len(book), AT_ONCE):
        places = range(start, min(start + AT_ONCE, len(book)))
        prompts = [edits[batches[i], book.edit_ids[i]].prompt for i in places]
        examples = [
            Example(tuple(prompt_ids(edited.base, prompt)), (0,), owner)
            for owner, prompt in enumerate(prompts)
        ]
        with edited.silenced(), torch.no_grad():
            keys = prepare(edited.base, site, examples).keys.float().cpu()
        distances = (keys - book.keys[start : start + AT_ONCE].float()).norm(dim=1)
        for i, distance in zip(places, distances.tolist(), strict=True):
            if not distance <= float(radii[i]):  # NaN is far, too
                found.append(MovedKey(batches[i], book.edit_ids[i], distance, float(radii[i])))
    return found
