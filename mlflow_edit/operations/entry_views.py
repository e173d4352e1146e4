"""The entries of a codebook as a reviewer sees them: in a plane, each with its nearest other."""

from collections.abc import Sequence
from typing import Any

import torch

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.results import EntryView
from mlflow_edit.models.encoder import sentence_encoder
from mlflow_edit.operations.nearest import said_of
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import AnyCodebook
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.encoder_scope import Decision
from mlflow_edit.patches.radii import CHUNK, exact_distances
from mlflow_edit.patches.scope import Query


def entry_views(book: AnyCodebook, batch: str, edits: Sequence[Edit]) -> tuple[EntryView, ...]:
    """Place the entries of a codebook in the plane of their first two principal components."""
    if not len(book):
        return ()
    by_id = {edit.id: edit for edit in edits}
    keys = book.keys.float()
    plane = _principal_plane(keys)
    if isinstance(book, Codebook):
        nearest = _nearest_others(keys) if len(book) > 1 else None
        others = [
            {} if nearest is None else _by_distance(book, nearest, i) for i in range(len(book))
        ]
    else:
        others = _by_meaning(book)
    return tuple(
        EntryView(
            edit_id=book.edit_ids[i],
            batch=batch,
            prompt=by_id[book.edit_ids[i]].prompt
            if isinstance(book, Codebook)
            else book.prompts[i],
            target=by_id[book.edit_ids[i]].target,
            scope="hidden" if isinstance(book, Codebook) else "encoder",
            x=round(float(plane[i, 0]), 3),
            y=round(float(plane[i, 1]), 3),
            radius=float(book.radii[i]),
            effective_radius=float(book.effective_radii[i]),
            **others[i],
        )
        for i in range(len(book))
    )


def _by_distance(
    book: Codebook, nearest: tuple[torch.Tensor, torch.Tensor], i: int
) -> dict[str, Any]:
    other, distance = int(nearest[0][i]), float(nearest[1][i])
    return {"nearest_edit": book.edit_ids[other], "nearest_distance": distance}


def _by_meaning(book: EncoderCodebook) -> list[dict[str, Any]]:
    """Find for each entry the other edit that its prompt comes nearest to asking."""
    scope = book.scope(sentence_encoder(book.encoder))
    found: list[dict[str, Any]] = []
    for start in range(0, len(book), CHUNK):
        queries = [Query(text) for text in book.prompts[start : start + CHUNK]]
        for i, looked_at in enumerate(scope.nearest(queries), start=start):
            others = [d for d in looked_at if book.edit_ids[d.entry] != book.edit_ids[i]]
            found.append(_near(book, others[0]) if others else {})
    return found


def _near(book: EncoderCodebook, decision: Decision) -> dict[str, Any]:
    keeps = bool(book.spans[decision.entry] == 0)
    return {
        "nearest_edit": book.edit_ids[decision.entry],
        "nearest_distance": decision.distance,
        "nearest_match": decision.match,
        "nearest_said": said_of(decision, keeps=keeps),
    }


def _nearest_others(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the index of each key's nearest other key, and its distance, both `(n_entries,)`."""
    indices, distances = [], []
    for start in range(0, len(keys), CHUNK):
        found = exact_distances(keys[start : start + CHUNK], keys)
        rows = torch.arange(len(found))
        found[rows, start + rows] = torch.inf
        nearest = found.min(dim=1)
        indices.append(nearest.indices)
        distances.append(nearest.values)
    return torch.cat(indices), torch.cat(distances)


def _principal_plane(keys: torch.Tensor) -> torch.Tensor:
    centred = keys - keys.mean(dim=0)
    if min(centred.shape) < 2:
        return torch.zeros(len(keys), 2)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    signs = directions[:2].sum(dim=1).sign()  # the sign of a component is arbitrary: fix it
    plane: torch.Tensor = centred @ (directions[:2] * signs[:, None]).T
    return plane
