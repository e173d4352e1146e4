"""Print what verbs return: one JSON object, or tables for people."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlflow_edit.core.results import EditResult
from mlflow_edit.core.scorecard import HEADLINE

if TYPE_CHECKING:
    from mlflow_edit.operations.review import ReviewState

PLAIN_WIDTH = 120
UI = "http://127.0.0.1:5000/"  # where `mledit ui` listens unless told otherwise


def print_json(verb: str, fields: Mapping[str, Any]) -> None:
    """Print one object with its schema."""
    click.echo(json.dumps({"schema": f"mledit.{verb}/1", **fields}, ensure_ascii=False))


def print_all(parts: Iterable[RenderableType], *, page: bool = False) -> None:
    """Print to standard output, through a pager where it is long and somebody reads it."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    parts = list(parts)
    if not page or not sys.stdout.isatty():
        for part in parts:
            console.print(part)
        return
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    text = capture.get()
    if text.count("\n") < console.height:
        click.echo(text, nl=False)
    else:
        os.environ.setdefault("LESS", "-R")
        click.echo_via_pager(text)


def line(text: str, style: str = "") -> Text:
    """Make a line that no markup in it can change."""
    return Text(text, style=style)


def short(digest: str) -> str:
    """Shorten a digest to what a person can compare."""
    return digest[:12]


def clipped(text: str, width: int = 200) -> str:
    """Put text on one line of at most `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def number(value: Any) -> str:
    """Write a metric; a dash where it was not measured."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], title: str = "") -> Table:
    """Make a table whose cells are plain text."""
    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def answered(ok: bool | None) -> Text:
    """Say whether an edit is answered as it should be; nothing where that was not measured."""
    if ok is None:
        return Text("")
    return Text("ok", "green") if ok else Text("failed", "bold red")


def edits_table(edits: Iterable[EditResult]) -> Table:
    """Show what each edit's prompt was answered before and after."""
    return table(
        ["", "asked", "before", "after"],
        (
            (
                answered(edit.ok),
                clipped(edit.prompt),
                clipped(edit.before, 90),
                Text(clipped(edit.after, 90), "bold"),
            )
            for edit in edits
        ),
    )


def review_parts(review: "ReviewState | None") -> list[RenderableType]:
    """Say where a version is reviewed, and how that stands."""
    if review is None or not (review.queue or review.said) or review.failed:
        return []
    by = f" by {', '.join(review.reviewers)}" if review.reviewers else ""
    rejected = f", {review.rejected} rejected" if review.rejected else ""
    stands = f" {review.approved} of {review.changes} approved{rejected}{by};"
    told = f"review:{stands if review.changes else ''}"
    if not review.queue:
        return [line(f"{told} {review.said}", "dim")]
    local = review.queue.startswith("#/")
    told += " mledit ui shows the queue:" if local else " the queue:"
    return [line(told, "dim"), line(f"  {UI if local else ''}{review.queue}", "dim")]


def scorecard_table(
    scorecard: Mapping[str, Any] | None, parent: Mapping[str, float] | None = None
) -> Table:
    """Show the headline metrics: value, number of probes, and change from the parent."""
    card = scorecard or {}
    probes = card.get("n_probes", {})
    rows = []
    for metric in HEADLINE:
        value, change = card.get(metric), (parent or {}).get(metric)
        counted = str(probes.get(metric, "")) if value is not None else ""
        row = [metric.replace("_", " "), number(value), counted]
        rows.append([*row, f"{change:+.3f}" if change is not None else ""])
    return table(["metric", "value", "probes", "change"], rows)
