"""Make one delta batch of those that the two sides of a merge bring, by a merging strategy."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from mlflow_edit.core.content import Content, Pair
from mlflow_edit.core.contextual import deltas_in_force
from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import Edit, normal_text
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import BaseRef, Exclusion, Merging
from mlflow_edit.errors import ConflictError, InvalidEdit
from mlflow_edit.operations.conflict_search import Sides
from mlflow_edit.patches.changes import Change
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.merging.catalog import STRATEGIES, USES, StrategyName
from mlflow_edit.patches.merging.strategy import Settings, Update
from mlflow_edit.patches.substitution import parameter
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry
from mlflow_edit.registry.stored_batch import StoredBatch

EDITOR = "merge"


@dataclass(frozen=True, slots=True)
class Combined:
    """What a merged version holds, the batch in it that is not stored yet, and how it was made."""

    content: Content
    learned: tuple[StoredBatch, ...] = ()
    merging: Merging | None = None


def combine(
    registry: Registry,
    base: BaseRef,
    sides: Sides,
    content: Content,
    strategy: StrategyName,
    settings: Settings,
) -> Combined:
    """Put one batch in the place of the deltas that only one side has, if both sides have some.

    Deltas that both sides hold stay as they are, and are the new batch's context. Which side is
    called ours makes no difference: sides are put in the order of their batches' digests.

    Args:
        registry: where the batches are.
        base: the base model.
        sides: both sides.
        content: what set algebra and the resolutions of conflicts give.
        strategy: how; `sum` changes nothing.
        settings: of the strategy.

    Raises:
        ConflictError: edits of the two sides cannot be in one batch.
    """
    acting = deltas_in_force(content.batches.values(), content.excluded())
    mine = sorted(set(acting) & set(sides.ours.batches) - set(sides.theirs.batches))
    other = sorted(set(acting) & set(sides.theirs.batches) - set(sides.ours.batches))
    if strategy == "sum" or not mine or not other:
        return Combined(content)
    first, second = sorted([mine, other])
    batches = {digest: registry.batch(acting[digest]) for digest in (*first, *second)}
    edits, names = _united(batches, content.excluded())
    chosen = {name: getattr(settings, name) for name in USES[strategy]}  # no others: no other batch
    stored = StoredBatch.of(
        base=base.digest,
        editor=EDITOR,
        params={"strategy": strategy, **chosen, "sides": f"{'+'.join(first)} {'+'.join(second)}"},
        edits=edits,
        patch=Delta(
            tuple(_changes(registry, base, batches, (first, second), strategy, settings)),
            tuple(edit.id for edit in edits),
        ),
        context=sorted(set(acting) - set(batches)),
    )
    merging = Merging(
        strategy=strategy,
        batch=stored.record.digest,
        of=tuple(sorted(batches)),
        **chosen,
    )
    return Combined(_in_place(content, stored, names, set(batches)), (stored,), merging)


def _changes(
    registry: Registry,
    base: BaseRef,
    batches: Mapping[str, StoredBatch],
    sides: tuple[Sequence[str], Sequence[str]],
    strategy: StrategyName,
    settings: Settings,
) -> Iterator[Change]:
    model = load_pinned(registry, base, device="cpu", dtype="float32").model
    found = [[c for digest in side for c in _of(batches[digest])] for side in sides]
    for tensor in sorted({change.tensor for side in found for change in side}):
        weight = parameter(model, tensor).detach()
        ours, theirs = (
            Update(
                side=json_digest(list(side)),
                base=weight,
                changes=tuple(change for change in some if change.tensor == tensor),
                inputs=_inputs(model, tensor),
            )
            for side, some in zip(sides, found, strict=True)
        )
        yield from STRATEGIES[strategy](tensor, ours, theirs, settings)


def _of(stored: StoredBatch) -> tuple[Change, ...]:
    return stored.patch.changes if isinstance(stored.patch, Delta) else ()


def _inputs(model: nn.Module, tensor: str) -> int | None:
    """Return the dimension of a weight that inputs are multiplied with."""
    module = model.get_submodule(tensor.rpartition(".")[0])
    if parameter(model, tensor).ndim != 2:
        return None
    return 0 if isinstance(module, nn.Embedding) or type(module).__name__ == "Conv1D" else 1


def _united(
    batches: Mapping[str, StoredBatch], excluded: Iterable[Pair]
) -> tuple[EditBatch, dict[Pair, str]]:
    """Unite the edits in force; return them, and the id by which each is known now.

    Edits that agree are one. Where ids meet, the batch's digest is put behind them.
    """
    out = set(excluded)
    once: dict[tuple[str, str], tuple[str, Edit]] = {}
    same: dict[Pair, tuple[str, str]] = {}
    for digest in sorted(batches):
        for edit in batches[digest].edits:
            if (digest, edit.id) not in out:
                key = (normal_text(edit.prompt), edit.label_digest)
                once.setdefault(key, (digest, edit))
                same[digest, edit.id] = key
    ids = [edit.id for _, edit in once.values()]
    named = {
        key: edit if ids.count(edit.id) == 1 else _renamed(edit, digest)
        for key, (digest, edit) in once.items()
    }
    try:
        edits = EditBatch(tuple(named.values()))
    except InvalidEdit as error:
        raise ConflictError(
            f"edits of the two sides cannot be in one batch: {error.problems[0]}",
            hint="Settle it by ours, theirs or drop; or merge by --strategy sum.",
        ) from error
    return edits, {pair: named[key].id for pair, key in same.items()}


def _renamed(edit: Edit, batch: str) -> Edit:
    return edit.model_copy(update={"id": f"{edit.id[:180]}.{batch[:12]}"})


def _in_place(
    content: Content, stored: StoredBatch, names: Mapping[Pair, str], gone: set[str]
) -> Content:
    """Put the new batch in the place of those that it was made of."""
    kept: list[Exclusion] = []
    for item in content.exclusions:
        if item.batch in gone:
            continue
        if item.by in gone:
            known = names.get((item.by or "", item.by_edit or ""))
            if known is None:
                continue
            moved = {"by": stored.record.digest, "by_edit": known}
            item = item.model_copy(update=moved)
        kept.append(item)
    refs = [ref for digest, ref in content.batches.items() if digest not in gone]
    return Content.closed([*refs, stored.reference("new")], kept)
