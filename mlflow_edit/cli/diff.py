"""`mledit diff`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlflow_edit.operations.diff import Diff, TensorDiff


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
    from rich.text import Text

    from mlflow_edit.cli import render

    parts: list[RenderableType] = [
        render.line(f"{found.name}: @{found.old} → @{found.new}", "bold")
    ]
    batches = [
        (Text(sign, style), render.short(b.digest), b.editor, str(b.n_edits), f"{b.bytes:,}")
        for sign, style, group in (
            ("+", "green", found.batches.added),
            ("-", "red", found.batches.removed),
        )
        for b in group
    ]
    if batches:
        parts.append(render.table(["", "batch", "editor", "edits", "bytes"], batches))
    rows: list[tuple[str | Text, ...]] = []
    for change in found.edits.changed:
        was, now = render.clipped(change.old.target, 60), render.clipped(change.new.target, 60)
        ids = " → ".join(dict.fromkeys((change.old.id, change.new.id)))
        rows.append((Text("~", "yellow"), ids, render.clipped(change.prompt), f"{was} → {now}"))
    for sign, style, edits in (
        ("+", "green", found.edits.added),
        ("-", "red", found.edits.removed),
    ):
        rows += [
            (Text(sign, style), e.id, render.clipped(e.prompt), render.clipped(e.target, 60))
            for e in edits
        ]
    if rows:
        parts.append(render.table(["", "edit", "asked", "target"], rows))
    if found.radii:
        radii = [(r.edit_id, f"{r.old:.2f}", f"{r.new:.2f}") for r in found.radii]
        parts.append(render.table(["radius in force of", "was", "is"], radii))
    if found.tensors:
        weights = [(one.tensor, _norm(one)) for one in found.tensors]
        parts.append(render.table(["weight", "changed by"], weights))
    if found.scorecard:
        scores = [
            (m.metric.replace("_", " "), render.number(m.old), render.number(m.new))
            for m in found.scorecard
        ]
        columns = ["metric", f"@{found.old}", f"@{found.new}"]
        parts.append(render.table(columns, scores))
    if found.answers:
        answers = [
            (
                Text("~", "yellow") if a.changed else Text("="),
                render.clipped(a.prompt),
                render.clipped(a.old, 90),
                render.clipped(a.new, 90) if a.changed else "",
            )
            for a in found.answers
        ]
        columns = ["", "asked", f"@{found.old}", f"@{found.new}"]
        parts.append(render.table(columns, answers))
    if found.is_empty and not found.scorecard:
        parts.append(render.line("They do the same."))
    return parts
