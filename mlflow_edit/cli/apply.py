"""`mledit apply`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlflow_edit.operations.apply import Applied


@click.command("apply")
@options.name
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@options.message
@click.option("--editor", default="grace", show_default=True, help="The algorithm.")
@click.option("--param", "params", multiple=True, metavar="K=V", help="A setting of the editor.")
@click.option("--parent", default="head", show_default=True, metavar="REF", help="Build on this.")
@click.option("--from-git", metavar="REV", help="Only the lines that this revision added.")
@options.suite
@click.option(
    "--min-retention",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Register nothing where fewer of all edits are answered; else that is only told.",
)
@options.author
@options.quiet
@options.as_json
def command(
    name: str,
    files: tuple[str, ...],
    message: str,
    editor: str,
    params: tuple[str, ...],
    parent: str,
    from_git: str | None,
    suite: str | None,
    min_retention: float | None,
    author: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Learn the edits in FILEs, measure what they did, register a version of NAME.

    FILEs are JSONL, JSON, CSV or YAML; each edit has at least a prompt and a target.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.editors.catalog import parse_params
    from mlflow_edit.operations.apply import apply
    from mlflow_edit.operations.evaluate import read_suite

    with reporting(quiet=quiet) as reporter:
        made = apply(
            name,
            files,
            message=message,
            editor=editor,
            params=parse_params(params),
            parent=parent,
            from_git=from_git,
            author=author,
            suite=read_suite(Path(suite)) if suite else None,
            min_retention=min_retention,
            reporter=reporter,
        )
    if as_json:
        render.print_json("apply", made.model_dump(mode="json"))
        return
    render.print_all(applied_parts(made))


def applied_parts(made: "Applied") -> "list[RenderableType]":
    """Show a new version: before and after, what was not learned, the scorecard."""
    from mlflow_edit.cli import render
    from mlflow_edit.core.text import counted

    said = f"{made.name}@{made.version}  {render.short(made.digest)}  {made.message}"
    parts: list[RenderableType] = [render.line(said, "bold")]
    if made.unchanged:
        return [*parts, *(render.line(warning) for warning in made.warnings)]
    parts.append(render.edits_table(made.edits))
    if made.unsolved:
        rows = [(u.edit_id, render.clipped(u.prompt), f"{u.loss:.2f}") for u in made.unsolved]
        parts.append(render.table(["not learned", "asked", "loss"], rows))
    parts.append(render.scorecard_table(made.scorecard))
    n_bytes = made.batch.bytes if made.batch else 0
    parts.append(
        render.line(
            f"{counted(made.n_edits, 'edit')} in force, {counted(n_bytes, 'byte')} stored, "
            f"{made.seconds:.1f} s",
            "dim",
        )
    )
    return [*parts, *render.review_parts(made.review)]
