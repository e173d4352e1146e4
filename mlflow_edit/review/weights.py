"""The weight deltas of a version as the review page lists them."""

from dataclasses import dataclass

from mlflow_edit.core.results import ChangeView, DeltaView
from mlflow_edit.core.review import Review
from mlflow_edit.review.charts import BAR_WIDTH, Bar, BlockPlot, block_plot

CHANGES_SHOWN = 200  # of each batch


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """What a delta adds to one weight; the bar is its share of the largest in the version."""

    view: ChangeView
    form: str
    bar: Bar | None


@dataclass(frozen=True, slots=True)
class DeltaPart:
    """A delta batch, its changes in the order of the model, and whether the version brought it."""

    view: DeltaView
    new: bool
    lines: list[ChangeLine]


@dataclass(frozen=True, slots=True)
class WeightsPart:
    """All deltas of a version: its own first, and where in the model they are."""

    parts: list[DeltaPart]
    n_weights: int
    largest: ChangeView | None
    blocks: BlockPlot | None


def weights_part(review: Review) -> WeightsPart | None:
    """Lay out the deltas of a version, None where there are none."""
    deltas = review.weights.deltas
    if not deltas:
        return None
    new = {review.batch} if review.batch else set[str]()
    changes = [change for delta in deltas for change in delta.changes]
    known = [change for change in changes if change.share is not None]
    largest = max(known, key=lambda change: change.share or 0.0, default=None)
    most = (largest.share if largest else None) or 0.0
    return WeightsPart(
        parts=[
            DeltaPart(delta, delta.batch in new, [_line(c, most) for c in delta.changes])
            for delta in sorted(deltas, key=lambda delta: delta.batch not in new)
        ],
        n_weights=len({change.tensor for change in changes}),
        largest=largest,
        blocks=block_plot(deltas, new=new),
    )


def _line(change: ChangeView, most: float) -> ChangeLine:
    form = change.form
    if change.rank is not None:
        form = f"rank {change.rank:,}"
    elif change.n_elements is not None:
        form = f"{change.n_elements:,} elements"
    share = change.share
    drawn = Bar(round(share / most * BAR_WIDTH, 1)) if share is not None and most else None
    return ChangeLine(change, form, drawn)
