"""The scopes of a version as a reviewer sees them: entries in a plane, and where two meet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mlflow_edit.core.content import Pair
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.results import EntryView, NearConflict, ScopeView
from mlflow_edit.operations.conflict_search import SAID
from mlflow_edit.operations.nearest import said_of
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import AnyCodebook, Composition, Part, compose
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.encoder_scope import Decision
from mlflow_edit.patches.overlap import Overlap, encoder_overlaps, overlaps
from mlflow_edit.patches.radii import CHUNK, exact_distances
from mlflow_edit.patches.scope import Encoder, Query

OTHERS_SHOWN = 500  # entries of earlier batches that are drawn around the new ones
COMPARED = 500  # entries, of a version without new ones, that are all compared with one another
CONFLICTS_SHOWN = 100
WEIGHT = {"contradiction": 0, "shadow": 1, "steal": 2}


def scope_views(
    composition: Composition,
    edits: Mapping[Pair, Edit],
    encoder: Callable[[str], Encoder],
    new: Part | None = None,
) -> tuple[ScopeView, ...]:
    """Draw the codebooks of a version, each in the plane of its first two principal components.

    Args:
        composition: all that is in force.
        edits: its edits by batch and id.
        encoder: gives the sentence encoder of a digest.
        new: the batch that was just learned, where one was: its entries come first, and near
            conflicts are looked for between them and all others.
    """
    fresh = compose([new]).patches if new is not None else ()
    views = []
    for book in composition.patches:
        entries = _Entries(book, composition.batch_of, edits)
        first = [i for i in range(len(book)) if new is not None and entries.batch(i) == new.batch]
        if new is None or first:
            views.append(_view(entries, first, _meetings(book, fresh, encoder), encoder))
    return tuple(views)


@dataclass(frozen=True, slots=True)
class _Entries:
    """The entries of a codebook, and the edits that they are of."""

    book: AnyCodebook
    batch_of: Mapping[str, str]
    edits: Mapping[Pair, Edit]

    def batch(self, i: int) -> str:
        return self.batch_of[self.book.entry_digests[i]]

    def edit(self, i: int) -> Edit:
        return self.edits[self.batch(i), self.book.edit_ids[i]]

    def view(self, i: int, place: torch.Tensor, near: Mapping[str, Any]) -> EntryView:
        book, edit = self.book, self.edit(i)
        hidden = isinstance(book, Codebook)
        return EntryView(
            edit_id=edit.id,
            batch=self.batch(i),
            prompt=edit.prompt if isinstance(book, Codebook) else book.prompts[i],
            target=edit.target,
            scope="hidden" if hidden else "encoder",
            x=round(float(place[0]), 3),
            y=round(float(place[1]), 3),
            radius=float(book.radii[i]),
            effective_radius=float(book.effective_radii[i]),
            **near,
        )


def _view(
    entries: _Entries,
    first: Sequence[int],
    meetings: Iterator[Overlap],
    encoder: Callable[[str], Encoder],
) -> ScopeView:
    book = entries.book
    found = sorted(
        {(min(m.ours, m.theirs), max(m.ours, m.theirs)): m for m in meetings}.values(),
        key=lambda m: (WEIGHT[m.kind], m.distance, m.ours, m.theirs),
    )
    found = [m for m in found if _differ(entries, m)]
    kept = found[:CONFLICTS_SHOWN]
    listed = list(first) or _sample(len(book))
    met = [i for m in kept for i in (m.ours, m.theirs)]
    shown = list(dict.fromkeys([*listed, *met, *_sample(len(book))]))
    place_of = {i: place for place, i in enumerate(shown)}
    plane = _principal_plane(book.keys[shown].float())
    near = _nearest(book, listed, encoder)
    return ScopeView(
        space=book.layer if isinstance(book, Codebook) else f"encoder {book.encoder[:12]}",
        n_entries=len(book),
        entries=tuple(entries.view(i, plane[n], near.get(i, {})) for n, i in enumerate(shown)),
        conflicts=tuple(
            NearConflict(
                kind=m.kind,
                ours=place_of[m.ours],
                theirs=place_of[m.theirs],
                distance=m.distance,
                said=SAID[m.kind],
            )
            for m in kept
        ),
        n_conflicts=len(found),
    )


def _differ(entries: _Entries, met: Overlap) -> bool:
    """Tell whether two entries are of different edits: what one edit keeps is no conflict."""
    ours, theirs = entries.edit(met.ours), entries.edit(met.theirs)
    return (entries.batch(met.ours), ours.id) != (entries.batch(met.theirs), theirs.id)


def _sample(n_entries: int) -> list[int]:
    """Choose entries to draw: all, or as many as there is room for, evenly."""
    return list(range(0, n_entries, -(-n_entries // OTHERS_SHOWN)))


def _meetings(
    book: AnyCodebook, fresh: Sequence[AnyCodebook], encoder: Callable[[str], Encoder]
) -> Iterator[Overlap]:
    """Find where new entries meet others of a codebook; places are those in the codebook."""
    whole = [book] if not fresh and len(book) <= COMPARED else []
    places = {digest: i for i, digest in enumerate(book.entry_digests)}
    for part in (*fresh, *whole):
        found: Iterator[Overlap] = iter(())
        if isinstance(part, Codebook) and isinstance(book, Codebook):
            found = overlaps(part, book)
        elif isinstance(part, EncoderCodebook) and isinstance(book, EncoderCodebook):
            found = encoder_overlaps(part, book, encoder(book.encoder))
        for one in found:
            yield one._replace(ours=places[part.entry_digests[one.ours]])


def _nearest(
    book: AnyCodebook, listed: Sequence[int], encoder: Callable[[str], Encoder]
) -> dict[int, dict[str, Any]]:
    """Find the nearest other of some entries: by distance, or by what their prompts ask."""
    if isinstance(book, Codebook):
        return dict(_by_distance(book, listed))
    return dict(_by_meaning(book, listed, encoder(book.encoder)))


def _by_distance(book: Codebook, listed: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    keys = book.keys.float()
    for start in range(0, len(listed), CHUNK):
        rows = torch.tensor(listed[start : start + CHUNK])
        distances = exact_distances(keys[rows], keys)
        distances[torch.arange(len(rows)), rows] = torch.inf
        distances[book.key_tokens[rows, None] != book.key_tokens[None, :]] = torch.inf
        for i, (distance, other) in zip(
            rows.tolist(), zip(*distances.min(dim=1), strict=True), strict=True
        ):
            if torch.isfinite(distance):
                nearest = book.edit_ids[int(other)]
                yield i, {"nearest_edit": nearest, "nearest_distance": float(distance)}


def _by_meaning(
    book: EncoderCodebook, listed: Sequence[int], encoder: Encoder
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Find for each entry the other edit that its prompt comes nearest to asking."""
    scope = book.scope(encoder)
    for start in range(0, len(listed), CHUNK):
        rows = listed[start : start + CHUNK]
        decisions = scope.nearest([Query(book.prompts[i]) for i in rows])
        for i, looked_at in zip(rows, decisions, strict=True):
            others = [d for d in looked_at if book.edit_ids[d.entry] != book.edit_ids[i]]
            if others:
                yield i, _near(book, others[0])


def _near(book: EncoderCodebook, decision: Decision) -> dict[str, Any]:
    keeps = bool(book.spans[decision.entry] == 0)
    return {
        "nearest_edit": book.edit_ids[decision.entry],
        "nearest_distance": decision.distance,
        "nearest_match": decision.match,
        "nearest_said": said_of(decision, keeps=keeps),
    }


def _principal_plane(keys: torch.Tensor) -> torch.Tensor:
    centred = keys - keys.mean(dim=0)
    if min(centred.shape) < 2:
        return torch.zeros(len(keys), 2)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    signs = directions[:2].sum(dim=1).sign()  # the sign of a component is arbitrary: fix it
    plane: torch.Tensor = centred @ (directions[:2] * signs[:, None]).T
    return plane
