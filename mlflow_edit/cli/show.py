"""`mledit show`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlflow_edit.operations.show import Shown


@click.command("show")
@options.ref
@options.as_json
def command(ref: str, as_json: bool) -> None:
    """Show one version: who changed what and why, and how it measures."""
    from mlflow_edit.cli import render
    from mlflow_edit.operations.show import show

    shown = show(ref)
    if as_json:
        fields = shown.model_dump(mode="json")
        render.print_json("show", {**fields.pop("version"), **fields})
        return
    render.print_all([*_facts(shown), *_measured(shown), *_contents(shown)], page=True)


def _facts(shown: "Shown") -> "list[RenderableType]":
    """Say who made the version of what, and which batches came and went."""
    from mlflow_edit.cli import render

    v = shown.version
    known = f" ({', '.join(v.aliases)})" if v.aliases else ""
    facts = [
        ("digest", v.digest),
        ("content", v.content_digest),
        ("author", v.author),
        ("date", v.created_at),
        ("base", f"{v.base.source} ({render.short(v.base.digest)}) {v.base.uri}"),
        ("parents", ", ".join(render.short(p) for p in v.parents) or "none"),
        *([("weights", shown.weights)] if shown.weights else []),
        *([("merged", shown.merging.said)] if shown.merging else []),
        ("run", v.run_id),
        ("message", v.message),
    ]
    parts: list[RenderableType] = [render.line(f"{v.name}@{v.version}{known}", "bold")]
    parts += [render.line(f"  {key:<9}{value}") for key, value in facts]
    batches = [
        (sign, render.short(b.digest), b.editor, str(b.n_edits), f"{b.bytes:,}", b.run_id)
        for sign, group in (("+", shown.added), ("-", shown.removed))
        for b in group
    ]
    if batches:
        columns = ["", "batch", "editor", "edits", "bytes", "run"]
        parts.append(render.table(columns, batches))
    return parts


def _measured(shown: "Shown") -> "list[RenderableType]":
    """Show the scorecard, against the parents' where they can be compared."""
    from mlflow_edit.cli import render

    change = shown.parent_changes[0].changes if shown.parent_changes else None
    parts: list[RenderableType] = [render.scorecard_table(shown.version.scorecard, change)]
    for parent in [one for one in shown.parent_changes[1:] if one.changes]:
        parts.append(render.line(f"  against @{parent.version}: {_changes(parent.changes)}"))
    for parent in [one for one in shown.parent_changes if one.protocol]:
        other = f"@{parent.version} was measured by another protocol ({', '.join(parent.protocol)})"
        parts.append(render.line(f"  {other}: what it decides is not compared", "yellow"))
    return parts


def _contents(shown: "Shown") -> "list[RenderableType]":
    """Show the edits in force, those left out, and what was decided about them."""
    from mlflow_edit.cli import render

    parts: list[RenderableType] = []
    if shown.edits:
        rows = [
            (
                render.answered(e.ok),
                e.id,
                render.clipped(e.prompt),
                render.clipped(e.target, 60),
                render.short(e.batch),
            )
            for e in shown.edits
        ]
        parts.append(render.table(["", "edit", "asked", "target", "batch"], rows))
    parts += [render.line(one.said, "yellow") for one in shown.contextual]
    parts += render.review_parts(shown.version.review)
    if shown.exclusions:
        out = [
            (x.edit, render.short(x.batch), x.reason, x.by_edit or "", render.short(x.by or ""))
            for x in shown.exclusions
        ]
        columns = ["left out", "batch", "why", "in favour of", "of batch"]
        parts.append(render.table(columns, out))
    for one in shown.resolutions:
        parts.append(render.line(f"  resolved {one.conflict} ({one.kind}): {one.choice}"))
    return parts


def _changes(changes: dict[str, float]) -> str:
    """Write the headline metrics that differ from a parent's."""
    from mlflow_edit.core.scorecard import HEADLINE

    moved = [f"{name.replace('_', ' ')} {changes[name]:+.3f}" for name in HEADLINE
             if abs(changes.get(name, 0)) >= 0.0005]  # fmt: skip
    return ", ".join(moved) or "nothing moved"
