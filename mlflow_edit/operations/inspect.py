"""Look at the entries of a version, or at one edit of it; no weights are loaded."""

from typing import Any

import torch

from mlflow_edit.core.contextual import contextual_of
from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.errors import EditNotFound
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.show import Answered, answers_of
from mlflow_edit.patches.changes import Change, LowRank, Sparse
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import AnyCodebook, Part, compose
from mlflow_edit.patches.delta_measures import frobenius
from mlflow_edit.patches.radii import exact_distances
from mlflow_edit.patches.scope import ScopeKind
from mlflow_edit.patches.weights import Weights
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry

N_NEIGHBOURS = 5


class Neighbour(FrozenModel):
    """Another entry near an entry's key; `agrees` when both want the same answer."""

    edit_id: str
    batch: str
    prompt: str
    target: str
    distance: float
    agrees: bool


class EntryDetail(FrozenModel):
    """One entry: its place, its radii and its neighbours, in L2 units of the key space.

    `value_shift` is how far the value lies from what it replaces, which only GRACE's own scope
    knows; `threshold` the probability from which an encoder's scope answers; `keeps` marks a prompt
    that the edit leaves to the base model; `n_values` how many positions are replaced.
    """

    edit_id: str
    batch: str
    editor: str
    layer: str
    prompt: str
    target: str
    key_norm: float
    value_shift: float | None
    radius: float
    effective_radius: float
    scope: ScopeKind = "hidden"
    threshold: float | None = None
    keeps: bool = False
    n_values: int = 1
    before: str | None = None
    after: str | None = None
    ok: bool | None = None
    neighbours: tuple[Neighbour, ...] = ()


class ChangeDetail(FrozenModel):
    """What a delta adds to one weight; `norm` is Frobenius's, null where only the base can tell.

    `rank` is that of a product of factors, `n_elements` the count of a sparse change.
    """

    tensor: str
    form: str
    rank: int | None
    n_elements: int | None
    norm: float | None
    bytes: int


class DeltaAnswer(FrozenModel):
    """An edit of a delta, and how its prompt was answered when the version was measured."""

    edit_id: str
    prompt: str
    target: str
    before: str | None = None
    after: str | None = None
    ok: bool | None = None


class DeltaDetail(FrozenModel):
    """A delta in force: its edits act together, through the same weights.

    `contextual` says why it acts on other weights than it was learned on, where it does; `answers`
    are those of the edit that was asked for.
    """

    batch: str
    editor: str
    edits: tuple[str, ...]
    bytes: int
    changes: tuple[ChangeDetail, ...]
    contextual: str | None = None
    answers: tuple[DeltaAnswer, ...] = ()


class Inspection(FrozenModel):
    """The entries and deltas of a version, or those of one edit."""

    name: str
    version: int
    n_entries: int
    entries: tuple[EntryDetail, ...]
    deltas: tuple[DeltaDetail, ...] = ()


def inspect(ref: str, edit: str | None = None, *, registry: Registry | None = None) -> Inspection:
    """Show the entries of a version: keys, radii, neighbours, answers; and its weight deltas.

    Args:
        ref: `NAME@REF`.
        edit: the id of one edit, or its beginning; None shows all, without neighbours.
        registry: where; None takes MLflow's setting.

    Raises:
        VersionNotFound, EditNotFound: there is no such version, or no such edit in it.
        IntegrityError: what is stored was changed or damaged.
    """
    registry = open_registry(registry)
    info = registry.resolve(parse_ref(ref))
    manifest = registry.manifest(info)
    stored = {batch.digest: registry.batch(batch) for batch in manifest.batches}
    edits = {(digest, e.id): e for digest, batch in stored.items() for e in batch.edits}
    composition = compose(
        [Part(digest, batch.patch, manifest.excluded(digest)) for digest, batch in stored.items()]
    )
    answers = answers_of(registry, info)
    entries: list[EntryDetail] = []
    for book in composition.patches:
        wanted = _wanted(book, edit)
        for i in wanted:
            batch = composition.batch_of[book.entry_digests[i]]
            entry = _entry(book, i, batch, stored[batch].record.editor, edits, answers)
            if edit is not None:
                entry = entry.model_copy(
                    update={"neighbours": _neighbours(book, i, composition.batch_of, edits)}
                )
            entries.append(entry)
    deltas = _deltas(composition.weights, manifest, edit)
    if edit is not None:
        deltas = tuple(_answered(delta, edit, edits, answers) for delta in deltas)
    if edit is not None and not entries and not deltas:
        known = ", ".join(sorted({edit_id for _, edit_id in edits})[:8])
        raise EditNotFound(f"no edit {edit!r} in {ref}", hint=f"Its edits are {known} …")
    n_entries = sum(map(len, composition.patches))
    return Inspection(
        name=info.name,
        version=info.version,
        n_entries=n_entries,
        entries=tuple(entries),
        deltas=deltas,
    )


def _deltas(
    weights: Weights | None, manifest: Manifest, edit: str | None
) -> tuple[DeltaDetail, ...]:
    odd = {one.batch: one.said for one in contextual_of(manifest)}
    editors = {ref.digest: ref.editor for ref in manifest.batches}
    return tuple(
        DeltaDetail(
            batch=batch,
            editor=editors[batch],
            edits=delta.edit_ids,
            bytes=delta.bytes,
            changes=tuple(map(_change, delta.changes)),
            contextual=odd.get(batch),
        )
        for batch, delta in (weights.parts if weights else ())
        if edit is None or any(one.startswith(edit) for one in delta.edit_ids)
    )


def _answered(
    delta: DeltaDetail,
    edit: str,
    edits: dict[tuple[str, str], Edit],
    answers: dict[str, Answered],
) -> DeltaDetail:
    """Say how the prompts of one edit of a delta (its id, or the beginning) are answered."""
    chosen = [edit] if edit in delta.edits else [e for e in delta.edits if e.startswith(edit)]
    found = []
    for one in (edits[delta.batch, edit_id] for edit_id in chosen):
        before, after, ok = answers.get(one.prompt, (None, None, None))
        found.append(
            DeltaAnswer(
                edit_id=one.id,
                prompt=one.prompt,
                target=one.target,
                before=before,
                after=after,
                ok=ok,
            )
        )
    return delta.model_copy(update={"answers": tuple(found)})


def _change(change: Change) -> ChangeDetail:
    return ChangeDetail(
        tensor=change.tensor,
        form=change.form,
        rank=change.rank if isinstance(change, LowRank) else None,
        n_elements=len(change.indices) if isinstance(change, Sparse) else None,
        norm=frobenius([change]),
        bytes=change.bytes,
    )


def _wanted(book: AnyCodebook, edit: str | None) -> list[int]:
    if edit is None:
        return list(range(len(book)))
    exact = [i for i, edit_id in enumerate(book.edit_ids) if edit_id == edit]
    return exact or [i for i, edit_id in enumerate(book.edit_ids) if edit_id.startswith(edit)]


def _entry(
    book: AnyCodebook,
    i: int,
    batch: str,
    editor: str,
    edits: dict[tuple[str, str], Edit],
    answers: dict[str, Answered],
) -> EntryDetail:
    edit = edits[batch, book.edit_ids[i]]
    prompt = edit.prompt if isinstance(book, Codebook) else book.prompts[i]
    before, after, ok = answers.get(prompt, (None, None, None))
    return EntryDetail(
        edit_id=edit.id,
        batch=batch,
        editor=editor,
        prompt=prompt,
        target=edit.target,
        key_norm=float(book.keys[i].float().norm()),
        **_by_scope(book, i),
        radius=float(book.radii[i]),
        effective_radius=float(book.effective_radii[i]),
        before=before,
        after=after,
        ok=ok,
    )


def _by_scope(book: AnyCodebook, i: int) -> dict[str, Any]:
    if isinstance(book, Codebook):
        shift = float((book.values[i].float() - book.keys[i].float()).norm())
        return {"layer": book.layer, "value_shift": shift}
    span = int(book.spans[i])
    return {
        "layer": book.layers[i],
        "value_shift": None,
        "scope": "encoder",
        "threshold": float(book.thresholds[i]),
        "keeps": span == 0,
        "n_values": span,
    }


def _neighbours(
    book: AnyCodebook, i: int, batch_of: dict[str, str], edits: dict[tuple[str, str], Edit]
) -> tuple[Neighbour, ...]:
    keys = book.keys.float()
    distances = exact_distances(keys[i : i + 1], keys)[0]
    distances[i] = torch.inf
    if isinstance(book, Codebook):
        distances[book.key_tokens != book.key_tokens[i]] = torch.inf
    found = []
    for j in distances.argsort()[:N_NEIGHBOURS].tolist():
        if not torch.isfinite(distances[j]):
            break
        batch = batch_of[book.entry_digests[j]]
        edit = edits[batch, book.edit_ids[j]]
        found.append(
            Neighbour(
                edit_id=edit.id,
                batch=batch,
                prompt=edit.prompt if isinstance(book, Codebook) else book.prompts[j],
                target=edit.target,
                distance=float(distances[j]),
                agrees=book.labels[j] == book.labels[i],
            )
        )
    return tuple(found)
