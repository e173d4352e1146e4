"""Metrics that a merge made worse: conflicts that only measuring finds."""

from collections.abc import Iterator

from mlflow_edit.core.conflicts import Conflict
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.operations.pairing import Pairing
from mlflow_edit.operations.resolving import Choices, unresolved
from mlflow_edit.registry.registry import Registry


def accepted_regressions(
    registry: Registry, pairing: Pairing, now: Scorecard, chosen: Choices
) -> list[Conflict]:
    """Return what got worse by the merge, if all of it is accepted.

    Raises:
        MergeConflict: it is not.
    """
    worse = list(_regressions(registry, pairing, now))
    left = [conflict for conflict in worse if chosen.of(conflict) is None]
    if left:
        outcome = pairing.outcome("conflicts", worse, left)
        raise unresolved(left, outcome=outcome, hint="Accept it: -X metric-regression=accept")
    return worse


def _regressions(registry: Registry, pairing: Pairing, now: Scorecard) -> Iterator[Conflict]:
    """Find the metrics in which the merged version is worse than the worse of its parents."""
    sides = [registry.scorecard(v, registry.manifest(v)) for v in (pairing.ours, pairing.theirs)]
    for named, metric in pairing.regression_ids().items():
        measured = [getattr(card, metric) for card in sides if card.protocol == now.protocol]
        before = [number for number in measured if number is not None]
        value = getattr(now, metric)
        if value is None or not before or value >= min(before) - 1e-9:
            continue
        yield Conflict(
            id=named,
            kind="metric-regression",
            blocking=True,
            message=f"{metric} is {value:.3f}; before the merge it was {min(before):.3f}",
        )
