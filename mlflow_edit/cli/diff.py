"""`mledit diff`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from mlflow_edit.core.diff import TensorDiff
    from mlflow_edit.operations.diff import Diff

T = TypeVar("T")


@click.command("diff")
@click.argument("old", metavar="NAME@A")
@click.argument("new", metavar="NAME@B")
@click.option("--stat", is_flag=True, help="Counts only.")
@click.option("--prompts", metavar="FILE", help="Which of these are answered differently.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where they differ.")
@options.quiet
@options.as_json
def command(
    old: str,
    new: str,
    stat: bool,
    prompts: str | None,
    exit_code: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Show what differs from NAME@A to NAME@B: batches, edits, scopes, scores, answers."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.diff import diff

    with reporting(quiet=quiet) as reporter:
        found = diff(old, new, prompts=prompts, reporter=reporter)
    if as_json:
        render.print_json("diff", found.model_dump(mode="json"))
    else:
        render.print_all(_stat(found) if stat else _parts(found), page=True)
    return 1 if exit_code and not found.is_empty else 0


def _stat(found: "Diff") -> "list[RenderableType]":
    from mlflow_edit.cli import render

    b, e = found.batches, found.edits
    n_bytes = sum(ref.bytes for ref in b.added), sum(ref.bytes for ref in b.removed)
    rows = [
        ("batches", f"+{len(b.added)}", f"-{len(b.removed)}", ""),
        ("bytes", f"+{n_bytes[0]:,}", f"-{n_bytes[1]:,}", ""),
        ("edits", f"+{len(e.added)}", f"-{len(e.removed)}", f"{len(e.changed)} changed"),
        ("radii", "", "", f"{len(found.radii)} changed"),
    ]
    rows += [("weight", one.tensor, "", _norm(one)) for one in found.tensors]
    if found.answers:
        moved = sum(answer.changed for answer in found.answers)
        rows.append(("answers", "", "", f"{moved} of {len(found.answers)} changed"))
    title = render.line(f"{found.name}: @{found.old} → @{found.new}", "bold")
    return [title, render.table(["", "added", "removed", ""], rows)]


def _norm(one: "TensorDiff") -> str:
    return "lossless" if one.norm is None else f"norm {one.norm:.4g}"


def _parts(found: "Diff") -> "list[RenderableType]":
    from mlflow_edit.cli import render

    columns = ["", f"@{found.old}", f"@{found.new}"]
    weights = [(one.tensor, _norm(one)) for one in found.tensors]
    radii = [(r.edit_id, f"{r.old:.2f}", f"{r.new:.2f}") for r in found.radii]
    scores = [
        (m.metric.replace("_", " "), render.number(m.old), render.number(m.new))
        for m in found.scorecard
    ]
    tables: list[tuple[list[str], Sequence[tuple[str | Text, ...]]]] = [
        (["", "batch", "editor", "edits", "bytes"], _batch_rows(found)),
        (["", "edit", "asked", "target"], _edit_rows(found)),
        (["radius in force of", "was", "is"], radii),
        (["weight", "changed by"], weights),
        (["metric", *columns[1:]], scores),
        (["", "asked", *columns[1:]], _answer_rows(found)),
    ]
    parts: list[RenderableType] = [
        render.line(f"{found.name}: @{found.old} → @{found.new}", "bold")
    ]
    parts += [render.table(titles, rows) for titles, rows in tables if rows]
    if found.scorecard and found.protocol:
        said = f"measured by different protocols: {', '.join(found.protocol)}"
        parts.append(render.line(said, "yellow"))
    if found.is_empty and not found.scorecard:
        parts.append(render.line("They do the same."))
    return parts


def _batch_rows(found: "Diff") -> "list[tuple[str | Text, ...]]":
    from mlflow_edit.cli import render

    return [
        (sign, render.short(b.digest), b.editor, str(b.n_edits), f"{b.bytes:,}")
        for sign, group in _signed(found.batches.added, found.batches.removed)
        for b in group
    ]


def _edit_rows(found: "Diff") -> "list[tuple[str | Text, ...]]":
    from rich.text import Text

    from mlflow_edit.cli import render

    rows: list[tuple[str | Text, ...]] = []
    for change in found.edits.changed:
        was, now = render.clipped(change.old.target, 60), render.clipped(change.new.target, 60)
        ids = " → ".join(dict.fromkeys((change.old.id, change.new.id)))
        rows.append((Text("~", "yellow"), ids, render.clipped(change.prompt), f"{was} → {now}"))
    return rows + [
        (sign, e.id, render.clipped(e.prompt), render.clipped(e.target, 60))
        for sign, group in _signed(found.edits.added, found.edits.removed)
        for e in group
    ]


def _answer_rows(found: "Diff") -> "list[tuple[str | Text, ...]]":
    from rich.text import Text

    from mlflow_edit.cli import render

    return [
        (
            Text("~", "yellow") if a.changed else Text("="),
            render.clipped(a.prompt),
            render.clipped(a.old, 90),
            render.clipped(a.new, 90) if a.changed else "",
        )
        for a in found.answers
    ]


def _signed(added: Sequence[T], removed: Sequence[T]) -> "list[tuple[Text, Sequence[T]]]":
    """Mark what came with a plus and what went with a minus."""
    from rich.text import Text

    return [(Text("+", "green"), added), (Text("-", "red"), removed)]
