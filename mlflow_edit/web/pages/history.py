"""The history of a model: its versions, how they descend from one another, what was decided."""

from dataclasses import dataclass

from flask import Response

from mlflow_edit.core import lineage
from mlflow_edit.core.scorecard import HEADLINE
from mlflow_edit.operations.log import Decision
from mlflow_edit.registry.registry import VersionInfo, heads, heads_to_join
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.paging import part_of
from mlflow_edit.web.rendering import page
from mlflow_edit.web.standing import record_of

SHOWN = 50  # versions on one page
LANES = 12  # drawn side by side; those beyond share the last one


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version: its place in the drawing, its parents by number, what was decided of it."""

    info: VersionInfo
    place: lineage.Row
    parents: tuple[int, ...]
    verdicts: tuple[Decision, ...]
    moves: tuple[Decision, ...]


def history(asked: Asked) -> Response:
    """Show the versions of a model, newest first, a page of them at a time; no artifact is read."""
    newest_first = asked.versions[::-1]
    places = list(lineage.rows({info.digest: info.parents for info in newest_first}))
    part = part_of(list(zip(newest_first, places, strict=True)), asked, SHOWN)
    numbers = {info.digest: info.version for info in asked.versions}
    record = record_of(asked)
    verdicts, moves = record.verdicts(), record.moves()
    rows = [
        VersionRow(
            info,
            place,
            tuple(numbers[digest] for digest in info.parents if digest in numbers),
            tuple(verdicts.get(info.version, {}).values()),
            tuple(moves.get(info.version, ())),
        )
        for info, place in part.items
    ]
    return page(
        "history.html",
        name=asked.name,
        rows=rows,
        part=part,
        heads=[info.version for info in heads(asked.versions)][::-1],
        to_join=[info.version for info in heads_to_join(asked.versions)][::-1],
        metrics=[one for one in HEADLINE if any(one in row.info.metrics for row in rows)],
        n_lanes=min(LANES, max((_width(row.place) for row in rows), default=1)),
        n_decisions=len(record.decisions),
        problem=record.problem,
    )


def _width(place: lineage.Row) -> int:
    """Count the lanes that a row and the lines below it take."""
    ends = (end + 1 for _, end in place.lines)
    return max(place.n_above, place.column + 1, *ends)
