"""Small charts as data: the lengths and places of marks, which the page draws as SVG."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from mlflow_edit.core.results import DeltaView

BAR_WIDTH = 120
PLOT_WIDTH, PLOT_HEIGHT = 600, 120


@dataclass(frozen=True, slots=True)
class Bar:
    """A share beside its parent's and production's, all as lengths on a bar `BAR_WIDTH` wide."""

    width: float
    parent: float | None = None
    production: float | None = None


def bar(
    value: float | None, parent: float | None = None, production: float | None = None
) -> Bar | None:
    """Draw a share in [0, 1] and those it is compared with, or nothing where there is no share."""
    width = _length(value)
    return None if width is None else Bar(width, _length(parent), _length(production))


def _length(share: float | None) -> float | None:
    return None if share is None or not 0 <= share <= 1 else round(share * BAR_WIDTH, 1)


@dataclass(frozen=True, slots=True)
class BlockPlot:
    """How much each block of the model changes: SVG paths of stems, by group.

    Blocks are those from `first` to `last`; `most` is the share at the top.
    """

    paths: dict[str, str]
    first: int
    last: int
    most: float


def block_plot(deltas: Sequence[DeltaView], *, new: Set[str]) -> BlockPlot | None:
    """Draw the relative norms of changes over the blocks that they are in.

    Nothing is drawn for fewer than three blocks.

    Args:
        deltas: the deltas in force.
        new: the batches that this version adds.
    """
    stems = [
        (int(named[0]), change.share, "new" if delta.batch in new else "old")
        for delta in deltas
        for change in delta.changes
        if change.share is not None and (named := re.search(r"\d{1,6}", change.tensor))
    ]
    blocks = {block for block, _, _ in stems}
    most = max((share for _, share, _ in stems), default=0.0)
    if len(blocks) < 3 or not most:
        return None
    first, last = min(blocks), max(blocks)
    paths: dict[str, str] = {}
    for block, share, group in sorted(stems, key=lambda stem: stem[2], reverse=True):
        x = round((block - first + 0.5) / (last - first + 1) * PLOT_WIDTH)
        height = round(share / most * PLOT_HEIGHT)
        paths[group] = paths.get(group, "") + f"M{x} {PLOT_HEIGHT}v-{height}"
    return BlockPlot(paths, first, last, most)
