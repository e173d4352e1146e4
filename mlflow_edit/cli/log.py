"""`mledit log`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlflow_edit.operations.log import History


@click.command("log")
@options.name
@click.option("--oneline", is_flag=True, help="One line for each version.")
@options.as_json
def command(name: str, oneline: bool, as_json: bool) -> None:
    """Show the history of NAME, newest first."""
    from mlflow_edit.cli import render
    from mlflow_edit.operations.log import log

    history = log(name)
    if as_json:
        render.print_json("log", history.model_dump(mode="json"))
        return
    render.print_all(history_parts(history, oneline=oneline), page=True)


def history_parts(history: "History", *, oneline: bool) -> "list[RenderableType]":
    """Show versions, newest first."""
    from mlflow_edit.cli import render

    parts: list[RenderableType] = []
    if len(history.heads) > 1:
        numbers = ", ".join(map(str, history.heads))
        parts.append(render.line(f"{len(history.heads)} heads: versions {numbers}", "yellow"))
    for v in history.versions:
        known = f" ({', '.join(v.aliases)})" if v.aliases else ""
        first = f"{v.version:>4}  {render.short(v.digest)}{known}  "
        if oneline:
            parts.append(render.line(first + render.clipped(v.message, 80)))
            continue
        parts.append(render.line(f"version {v.version}{known}  {render.short(v.digest)}", "bold"))
        parents = ", ".join(render.short(parent) for parent in v.parents) or "none"
        parts.append(render.line(f"  author   {v.author}\n  date     {v.created_at}"))
        parts.append(render.line(f"  parents  {parents}"))
        parts.append(render.line(f"  edits    {v.n_edits} in {v.n_batches} batches"))
        measured = [
            f"{metric.replace('_', ' ')} {value:.3f}"
            for metric, value in (v.scorecard or {}).items()
            if value is not None
        ]
        if measured:
            parts.append(render.line(f"  measured {', '.join(measured)}"))
        parts.append(render.line(f"\n    {v.message}\n"))
    return parts
