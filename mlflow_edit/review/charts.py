"""Charts as data: the places and sizes of marks, which the page draws as SVG."""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal

from mlflow_edit.core.results import EntryView

CIRCLES_SHOWN = 300
POINTS_SHOWN = 5_000
LINKED = 0.1  # probability of asking the same from which two entries are linked
SIZE = 600
MARGIN = 12
BAR_WIDTH = 96


@dataclass(frozen=True, slots=True)
class Bar:
    """A share drawn against its parent's, both as lengths on a bar `BAR_WIDTH` wide."""

    width: float
    parent: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """One entry in the drawing: its centre, its effective radius drawn to scale, its group."""

    x: int
    y: int
    radius: int
    group: Literal["new", "old", "bad"]


@dataclass(frozen=True, slots=True)
class Scatter:
    """The entries of a codebook in a drawing `SIZE` wide and `height` high.

    `marks` has one item for each entry (None where it has no finite place) or is empty above
    `CIRCLES_SHOWN`; `points` are SVG paths of dots by group, used then; `n_drawn` counts entries.
    `links` is an SVG path of lines between entries of which one may ask what the other asks.
    """

    marks: tuple[Mark | None, ...]
    points: dict[str, str]
    n_drawn: int
    height: int
    links: str = ""


def bar(value: float | None, parent: float | None) -> Bar | None:
    """Draw a share in [0, 1] and its parent's, or nothing where there is no share."""
    if value is None or not 0 <= value <= 1:
        return None
    at = None if parent is None or not 0 <= parent <= 1 else round(parent * BAR_WIDTH, 1)
    return Bar(round(value * BAR_WIDTH, 1), at)


def scatter(entries: Sequence[EntryView], *, new: Set[str], bad: Set[str]) -> Scatter | None:
    """Place the entries in a drawing, x, y and radius in one scale.

    Args:
        entries: the codebook's entries, with their keys projected to a plane.
        new: ids of the edits that this version adds.
        bad: ids of the edits that failed.
    """
    drawn = [entry for entry in entries if _has_place(entry)]
    if not drawn:
        return None
    circles = len(entries) <= CIRCLES_SHOWN
    shown = drawn[:: math.ceil(len(drawn) / POINTS_SHOWN)]
    place = _Place.around(drawn, with_radii=circles)
    if circles:
        marks = tuple(_mark(e, place, new, bad) if _has_place(e) else None for e in entries)
        return Scatter(marks, {}, len(drawn), place.height, _links(entries, marks))
    points = {"old": "", "new": "", "bad": ""}
    for entry in shown:
        mark = _mark(entry, place, new, bad)
        points[mark.group] += f"M{mark.x} {mark.y}h0"
    paths = {group: path for group, path in points.items() if path}
    return Scatter((), paths, len(shown), place.height)


def _links(entries: Sequence[EntryView], marks: Sequence[Mark | None]) -> str:
    first: dict[str, Mark] = {}
    for entry, mark in zip(entries, marks, strict=True):
        if mark:
            first.setdefault(entry.edit_id, mark)
    lines = set()
    for entry, mark in zip(entries, marks, strict=True):
        other = first.get(entry.nearest_edit or "")
        if mark and other and (entry.nearest_match or 0.0) >= LINKED:
            lines.add(f"M{mark.x} {mark.y}L{other.x} {other.y}")
    return "".join(sorted(lines))


def _has_place(entry: EntryView) -> bool:
    return math.isfinite(entry.x) and math.isfinite(entry.y)


def _mark(entry: EntryView, place: "_Place", new: Set[str], bad: Set[str]) -> Mark:
    group: Literal["new", "old", "bad"] = "old"
    if entry.edit_id in bad:
        group = "bad"
    elif entry.edit_id in new:
        group = "new"
    x, y = place.of(entry.x, entry.y)
    return Mark(x, y, round(_radius(entry) * place.scale), group)


def _radius(entry: EntryView) -> float:
    if entry.scope == "encoder":
        return 0.0
    radius = entry.effective_radius
    return radius if math.isfinite(radius) and radius > 0 else 0.0


@dataclass(frozen=True, slots=True)
class _Place:
    """A map from the plane of the keys to the drawing."""

    left: float
    top: float
    scale: float
    height: int

    @classmethod
    def around(cls, entries: Sequence[EntryView], *, with_radii: bool) -> "_Place":
        reach = [_radius(entry) if with_radii else 0.0 for entry in entries]
        x_from = min(e.x - r for e, r in zip(entries, reach, strict=True))
        x_to = max(e.x + r for e, r in zip(entries, reach, strict=True))
        y_from = min(e.y - r for e, r in zip(entries, reach, strict=True))
        y_to = max(e.y + r for e, r in zip(entries, reach, strict=True))
        side = max(x_to - x_from, y_to - y_from)
        side = side if 0 < side < math.inf else 1.0
        tall = min(side, max(y_to - y_from, side / 3))
        scale = (SIZE - 2 * MARGIN) / side
        return cls(
            left=(x_from + x_to - side) / 2,
            top=(y_from + y_to + tall) / 2,
            scale=scale,
            height=round(tall * scale) + 2 * MARGIN,
        )

    def of(self, x: float, y: float) -> tuple[int, int]:
        across, down = (x - self.left) * self.scale, (self.top - y) * self.scale
        return round(across) + MARGIN, round(down) + MARGIN
