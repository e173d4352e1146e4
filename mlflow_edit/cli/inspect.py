"""`mledit inspect`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from mlflow_edit.operations.inspect import DeltaAnswer, DeltaDetail, EntryDetail


@click.command("inspect")
@options.ref
@click.argument("edit", required=False)
@options.as_json
def command(ref: str, edit: str | None, as_json: bool) -> None:
    """Look at the entries of a version, or at one EDIT.

    Shows keys, radii, neighbours, and the answers before and after.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.core.text import counted
    from mlflow_edit.operations.inspect import inspect

    found = inspect(ref, edit)
    if as_json:
        render.print_json("inspect", found.model_dump(mode="json"))
        return
    if edit is None:
        columns = ["edit", "asked", "target", "fires", "batch"]
        rows = [
            (
                e.edit_id,
                render.clipped(e.prompt),
                render.clipped(e.target, 60),
                _fires(e),
                render.short(e.batch),
            )
            for e in found.entries
        ]
        held = counted(found.n_entries, "entry", "entries")
        if found.deltas:
            held += f" and {counted(len(found.deltas), 'delta')} of weights"
        title = render.line(f"{found.name}@{found.version}: {held}", "bold")
        entries = [render.table(columns, rows)] if rows else []
        render.print_all([title, *entries, *_deltas(found.deltas)], page=True)
        return
    parts = [part for entry in found.entries for part in _entry(entry)]
    render.print_all([*parts, *_deltas(found.deltas)], page=True)


def _fires(entry: "EntryDetail") -> str:
    """Say when an entry answers."""
    if entry.scope == "hidden":
        cut = entry.effective_radius < entry.radius
        asked = f", cut from {entry.radius:.2f}" if cut else ""
        return f"within {entry.effective_radius:.2f}{asked}"
    return f"from {100 * (entry.threshold or 0):.0f} %" if entry.radius else "at its own words"


def _deltas(deltas: "Sequence[DeltaDetail]") -> "list[RenderableType]":
    from mlflow_edit.cli import render

    parts: list[RenderableType] = []
    for delta in deltas:
        for one in delta.answers:
            parts.append(render.line(one.edit_id, "bold"))
            parts += [render.line(f"  {key:<8}{value}") for key, value in _asked(one)]
        edits = ", ".join(delta.edits)
        said = f"delta {render.short(delta.batch)} by {delta.editor}, {delta.bytes:,} bytes: "
        parts.append(render.line(said + render.clipped(edits), "bold"))
        if delta.contextual:
            parts.append(render.line(f"  {delta.contextual}", "yellow"))
        rows = [
            (
                one.tensor,
                one.form if one.rank is None else f"{one.form}, rank {one.rank}",
                "lossless" if one.norm is None else f"{one.norm:.4g}",
                f"{one.bytes:,}",
            )
            for one in delta.changes
        ]
        parts.append(render.table(["weight", "form", "norm", "bytes"], rows))
    return parts


def _scope(entry: "EntryDetail") -> list[tuple[str, str]]:
    from mlflow_edit.core.text import counted

    if entry.scope == "hidden":
        key = f"norm {entry.key_norm:.1f}; the value lies {entry.value_shift:.1f} away from it"
        return [
            ("key", key),
            ("radius", f"{entry.radius:.2f} asked for, {entry.effective_radius:.2f} in force"),
        ]
    if not entry.radius:
        return [("scope", "these words only")]
    values = counted(entry.n_values or 0, "value")
    what = "keeps the base model's answer" if entry.keeps else f"puts {values} in place"
    asks = f"questions that ask the same with a probability of {100 * (entry.threshold or 0):.0f} %"
    return [("scope", f"{asks} or more; looked at within {entry.radius:.2f}"), ("does", what)]


def _asked(one: "EntryDetail | DeltaAnswer") -> list[tuple[str, str]]:
    """Say what an edit asks, and how that was answered."""
    answered = "" if one.ok is None else "ok" if one.ok else "failed"
    return [
        ("asked", one.prompt),
        ("target", one.target),
        ("before", one.before or "-"),
        ("after", f"{one.after or '-'}  {answered}"),
    ]


def _entry(entry: "EntryDetail") -> "list[RenderableType]":
    from mlflow_edit.cli import render

    facts = [
        *_asked(entry),
        ("batch", f"{render.short(entry.batch)} by {entry.editor}"),
        ("layer", entry.layer),
        *_scope(entry),
    ]
    parts: list[RenderableType] = [render.line(entry.edit_id, "bold")]
    parts += [render.line(f"  {key:<8}{value}") for key, value in facts]
    if entry.neighbours:
        rows = [
            (
                f"{n.distance:.2f}",
                "agrees" if n.agrees else "differs",
                n.edit_id,
                render.clipped(n.prompt),
                render.clipped(n.target, 60),
            )
            for n in entry.neighbours
        ]
        parts.append(render.table(["distance", "", "neighbour", "asked", "target"], rows))
    return parts
