"""The entries of a scope as a drawing: places and sizes of marks, which the page draws as SVG."""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal

from mlflow_edit.core.results import EntryView, NearConflict, ScopeView

CIRCLES_SHOWN = 300
POINTS_SHOWN = 5_000
SIZE = 600
MARGIN = 12

Group = Literal["old", "new", "bad"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One entry in the drawing: its centre, its effective radius drawn to scale, its group."""

    x: int
    y: int
    radius: int
    group: Group


@dataclass(frozen=True, slots=True)
class Scatter:
    """The entries of a scope in a drawing `SIZE` wide and `height` high.

    `marks` has one item for each entry (None where it has no finite place) or is empty above
    `CIRCLES_SHOWN`; `points` are SVG paths of dots by group; `n_drawn` counts entries. `links` are
    SVG paths of lines between near conflicts, by kind.
    """

    marks: tuple[Mark | None, ...]
    points: dict[str, str]
    n_drawn: int
    height: int
    links: dict[str, str]


def scatter(scope: ScopeView, *, new: Set[str], bad: Set[str]) -> Scatter | None:
    """Place the entries in a drawing, x, y and radius in one scale.

    Args:
        scope: entries with their keys projected to a plane, and the near conflicts among them.
        new: ids of the edits that this version adds.
        bad: ids of the edits that failed.
    """
    drawn = [entry for entry in scope.entries if _has_place(entry)]
    if not drawn:
        return None
    circles = len(scope.entries) <= CIRCLES_SHOWN
    place = _Place.around(drawn, with_radii=circles)
    marks = [_mark(e, place, new, bad) if _has_place(e) else None for e in scope.entries]
    shown = [mark for mark in marks if mark is not None]
    shown = shown[:: math.ceil(len(shown) / POINTS_SHOWN)]
    points: dict[str, str] = {"old": "", "new": "", "bad": ""}  # what matters lies on top
    for mark in shown:
        points[mark.group] += f"M{mark.x} {mark.y}h0"
    return Scatter(
        marks=tuple(marks) if circles else (),
        points={group: path for group, path in points.items() if path},
        n_drawn=len(shown),
        height=place.height,
        links=_links(scope.conflicts, marks),
    )


def _links(conflicts: Sequence[NearConflict], marks: Sequence[Mark | None]) -> dict[str, str]:
    links: dict[str, str] = {}
    for conflict in conflicts:
        ours, theirs = marks[conflict.ours], marks[conflict.theirs]
        if ours and theirs:
            line = f"M{ours.x} {ours.y}L{theirs.x} {theirs.y}"
            links[conflict.kind] = links.get(conflict.kind, "") + line
    return links


def _has_place(entry: EntryView) -> bool:
    return math.isfinite(entry.x) and math.isfinite(entry.y)


def _mark(entry: EntryView, place: "_Place", new: Set[str], bad: Set[str]) -> Mark:
    group: Group = "old"
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
