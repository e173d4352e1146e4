"""`mledit conflicts`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from mlflow_edit.operations.conflicts import OpenConflict


@click.group("conflicts", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, look at and resolve the conflicts of a merge that stopped.

    \b
    mledit conflicts list NAME
    mledit conflicts show NAME c-0123456789
    mledit conflicts resolve NAME c-0123456789 --ours
    mledit merge NAME --continue
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command("list")
@options.name
@options.as_json
def list_command(name: str, as_json: bool) -> None:
    """List the conflicts of the open merge of NAME."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.merge import side_text
    from mlflow_edit.operations.conflicts import list_conflicts

    found = list_conflicts(name)
    if as_json:
        render.print_json("conflicts", found.model_dump(mode="json"))
        return
    rows = [
        (
            one.conflict.id,
            one.conflict.kind,
            side_text(one.conflict.ours),
            side_text(one.conflict.theirs),
            one.choice or ("open" if one.conflict.blocking else "settled by rule"),
        )
        for one in found.conflicts
    ]
    said = f"{name}: merge of @{found.ours} and @{found.theirs}, {found.unresolved} to resolve"
    columns = ["conflict", "kind", f"ours @{found.ours}", f"theirs @{found.theirs}", "choice"]
    render.print_all([render.line(said, "bold"), render.table(columns, rows)], page=True)


@command.command("show")
@options.name
@click.argument("conflict", metavar="ID")
@options.as_json
def show_command(name: str, conflict: str, as_json: bool) -> None:
    """Show one conflict, and what may be chosen."""
    from mlflow_edit.operations.conflicts import show_conflict

    _print(show_conflict(name, conflict), as_json=as_json)


@command.command("resolve")
@options.name
@click.argument("conflict", metavar="ID")
@click.option("--ours", "choice", flag_value="ours", help="Keep our edit.")
@click.option("--theirs", "choice", flag_value="theirs", help="Keep their edit.")
@click.option("--drop", "choice", flag_value="drop", help="Keep neither.")
@click.option("--both", "choice", flag_value="both", help="Keep both; their scopes part half-way.")
@click.option("--accept", "choice", flag_value="accept", help="Take it as it is.")
@options.message
@options.author
@options.as_json
def resolve_command(
    name: str,
    conflict: str,
    choice: str | None,
    message: str,
    author: str | None,
    as_json: bool,
) -> None:
    """Resolve one conflict of the open merge of NAME; the last word counts."""
    from mlflow_edit.operations.conflicts import resolve_conflict

    if choice is None:
        raise click.UsageError("choose --ours, --theirs, --drop, --both or --accept")
    _print(resolve_conflict(name, conflict, choice, author=author, note=message), as_json=as_json)


def _print(one: "OpenConflict", *, as_json: bool) -> None:
    from mlflow_edit.cli import render
    from mlflow_edit.cli.merge import side_text

    if as_json:
        render.print_json("conflicts", one.model_dump(mode="json"))
        return
    c = one.conflict
    facts = [
        ("kind", c.kind),
        ("said", c.message),
        ("ours", side_text(c.ours) or "-"),
        ("theirs", side_text(c.theirs) or "-"),
        ("base", side_text(c.base) or "-"),
        ("choices", ", ".join(one.choices)),
        ("chosen", one.choice or ("nothing yet" if c.blocking else "settled by rule")),
    ]
    if c.distance is not None and c.ours and c.theirs:
        radii = f"radii {c.ours.radius or 0:.2f} and {c.theirs.radius or 0:.2f}"
        facts.append(("distance", f"{c.distance:.2f} between the keys; {radii}"))
    lines = [render.line(f"  {key:<9}{value}") for key, value in facts]
    render.print_all([render.line(c.id, "bold"), *lines])
