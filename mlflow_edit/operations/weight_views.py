"""The weight deltas of a version as a reviewer sees them: how much they change, where they meet."""

from collections.abc import Iterable, Mapping
from itertools import combinations, islice

import torch

from mlflow_edit.core.content import Content
from mlflow_edit.core.contextual import contextual
from mlflow_edit.core.results import ChangeView, DeltaMeeting, DeltaView, WeightsView
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.changes import Change, Dense, LowRank, Sparse
from mlflow_edit.patches.delta_measures import frobenius, overlaps_of
from mlflow_edit.patches.substitution import parameter
from mlflow_edit.patches.weights import Weights

COMPARED = 60  # pairs of batches
MEETINGS_SHOWN = 60


def change_views(edited: EditedModel) -> dict[str, tuple[ChangeView, ...]]:
    """Measure what each delta in force adds, against the base model's weights, by batch."""
    if edited.composition.weights is None:
        return {}
    model = edited.base.model
    order = {name: i for i, (name, _) in enumerate(model.named_parameters())}
    norms: dict[str, float] = {}
    views = {}
    for batch, delta in edited.composition.weights.parts:
        found = []
        for change in sorted(delta.changes, key=lambda one: order.get(one.tensor, len(order))):
            base = parameter(model, change.tensor).detach()
            if change.tensor not in norms:
                norms[change.tensor] = float(base.float().norm())
            found.append(_change_view(change, base, norms[change.tensor]))
        views[batch] = tuple(found)
    return views


def _change_view(change: Change, base: torch.Tensor, base_norm: float) -> ChangeView:
    if isinstance(change, Dense):
        norm: float | None = float((change.edited(base).float() - base.float()).norm())
    else:
        norm = frobenius([change])
    return ChangeView(
        tensor=change.tensor,
        form=change.form,
        rank=change.rank if isinstance(change, LowRank) else None,
        n_elements=len(change.indices) if isinstance(change, Sparse) else None,
        norm=norm,
        base_norm=base_norm,
        bytes=change.bytes,
    )


def weights_view(
    weights: Weights | None,
    changes: Mapping[str, tuple[ChangeView, ...]],
    content: Content,
    new: str | None = None,
) -> WeightsView:
    """Show the deltas of a version, and where they meet.

    Args:
        weights: the deltas in force.
        changes: what each of them adds (see `change_views`).
        content: the version's batches.
        new: the batch that was just learned, where one was: only it is compared with the others.
    """
    if weights is None:
        return WeightsView()
    odd = {one.batch: one.why for one in contextual(content.batches.values(), content.excluded())}
    deltas = dict(weights.parts)
    pairs: Iterable[tuple[str, str]] = combinations(sorted(deltas, key=lambda d: d != new), 2)
    pairs = [pair for pair in pairs if new not in deltas or new in pair]
    met = [
        DeltaMeeting(ours=a, theirs=b, tensor=one.tensor, measure=one.measure)
        for a, b in islice(pairs, COMPARED)
        for one in overlaps_of(deltas[a], deltas[b])
    ]
    met.sort(key=lambda one: (-one.measure, one.tensor, one.ours, one.theirs))
    return WeightsView(
        deltas=tuple(
            DeltaView(
                batch=batch,
                editor=content.batches[batch].editor,
                n_edits=len(delta.edit_ids),
                changes=changes.get(batch, ()),
                contextual=odd.get(batch),
            )
            for batch, delta in deltas.items()
        ),
        meetings=tuple(met[:MEETINGS_SHOWN]),
        n_meetings=len(met),
        n_pairs=len(pairs),
        n_compared=min(len(pairs), COMPARED),
    )
