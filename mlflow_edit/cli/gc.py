"""`mledit gc`."""

import click

from mlflow_edit.cli import options


@click.command("gc")
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="List only.")
@click.option(
    "--older-than",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="What is younger may belong to somebody who is at work.",
)
@options.as_json
def command(name: str | None, dry_run: bool, older_than: float, as_json: bool) -> None:
    """Remove what no version of NAME, or of any model, names: what crashes left behind."""
    from mlflow_edit.cli import render
    from mlflow_edit.operations.gc import gc

    found = gc(name, dry_run=dry_run, older_than=older_than)
    if as_json:
        render.print_json("gc", found.model_dump(mode="json"))
        return
    done = "to remove" if dry_run else "removed"
    parts = [render.line(f"{len(found.orphans)} orphans {done}", "bold")]
    if found.kept:
        parts.append(render.line(f"  {len(found.kept)} kept: younger than {older_than:,.0f} s"))
    if found.orphans:
        rows = [(o.name, o.kind, o.id, o.status, f"{o.age:,.0f} s") for o in found.orphans]
        render.print_all([*parts, render.table(["of", "kind", "id", "status", "age"], rows)])
        return
    render.print_all(parts)
