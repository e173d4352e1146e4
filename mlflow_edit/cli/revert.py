"""`mledit revert`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlflow_edit.operations.revert import EditRef
    from mlflow_edit.operations.version_view import VersionDetail


@click.command("revert")
@options.ref
@click.argument("targets", nargs=-1, required=True, metavar="BATCH|EDIT...")
@click.option("--cascade", is_flag=True, help="Take out older edits that would come back, too.")
@click.option(
    "--replay", is_flag=True, help="Learn later batches again on the weights that are left."
)
@options.publishing
def command(
    ref: str,
    targets: tuple[str, ...],
    cascade: bool,
    replay: bool,
    how: options.Publishing,
) -> None:
    """Take batches or edits out of NAME@REF, as a new version.

    A BATCH is the beginning of its digest, an EDIT its id or BATCH:ID. All go at once. The result
    does what a history without them would do; older edits that they had replaced come back.
    Single edits of a weight delta are taken out by learning it again without them.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.revert import revert

    with reporting(quiet=how.quiet) as reporter:
        made = revert(ref, targets, cascade=cascade, replay=replay, **how.settings(reporter))
    if how.as_json:
        render.print_json("revert", made.model_dump(mode="json"))
        return
    parts: list[RenderableType] = [version_line(made)]
    parts += edit_refs("taken out", made.taken)
    parts += edit_refs("in force again", made.returned)
    render.print_all([*parts, *measured_parts(made)])


def version_line(made: "VersionDetail") -> "RenderableType":
    """Name a new version."""
    from mlflow_edit.cli import render

    return render.line(
        f"{made.name}@{made.version}  {render.short(made.digest)}  {made.message}", "bold"
    )


def measured_parts(made: "VersionDetail") -> "list[RenderableType]":
    """Show the scorecard of a new version, or how to have it measured, and its review."""
    from mlflow_edit.cli import render
    from mlflow_edit.core.text import counted

    held = f"{counted(made.n_edits, 'edit')} in force, content {render.short(made.content_digest)}"
    card = made.scorecard or {}
    if any(card.get(metric) is not None for metric in ("retention", "test_retention")):
        parts: list[RenderableType] = [render.scorecard_table(card), render.line(held, "dim")]
    else:
        hint = f"not measured: mledit eval {made.name}@{made.version}"
        parts = [render.line(f"{held}; {hint}", "dim")]
    return [*parts, *render.review_parts(made.review)]


def edit_refs(title: str, edits: "tuple[EditRef, ...]") -> "list[RenderableType]":
    """Show some edits in a table, or nothing."""
    from mlflow_edit.cli import render

    rows = [
        (e.id, render.clipped(e.prompt), render.clipped(e.target, 60), render.short(e.batch))
        for e in edits
    ]
    return [render.table([title, "asked", "target", "batch"], rows)] if rows else []
