"""Add both updates, each multiplied by the same weight (task arithmetic)."""

from dataclasses import replace

from mlflow_edit.patches.changes import Change, LowRank, Sparse
from mlflow_edit.patches.merging.strategy import Settings, Update, as_changes, as_they_are


def linear(tensor: str, ours: Update, theirs: Update, settings: Settings) -> tuple[Change, ...]:
    r"""Return $\lambda (\Delta_1 + \Delta_2)$; the mean unless a weight is given.

    Ilharco et al., "Editing models with task arithmetic", 2023. Factors stay factors.
    """
    weight = settings.weight
    both = (*ours.changes, *theirs.changes)
    changes = [change for change in both if isinstance(change, LowRank | Sparse)]
    if len(changes) == len(both):
        return as_they_are(tensor, ours.base, [_scaled(one, weight) for one in changes])
    return as_changes(tensor, ours.base, weight * (ours.total + theirs.total))


def _scaled(change: LowRank | Sparse, weight: float) -> Change:
    if isinstance(change, LowRank):
        return replace(change, scale=change.scale * weight)
    return replace(change, values=change.values * weight)
