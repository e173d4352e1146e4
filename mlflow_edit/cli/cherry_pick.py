"""`mledit cherry-pick`."""

from typing import Any

import click

from mlflow_edit.cli import options


@click.command("cherry-pick")
@options.ref
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option("--onto", required=True, metavar="NAME@REF", help="The version to build on.")
@options.settling
@options.publishing
def command(
    ref: str,
    batches: tuple[str, ...],
    onto: str,
    settled: dict[str, Any],
    how: options.Publishing,
) -> None:
    """Bring batches of NAME@REF to another line, or to another model of the same base.

    In conflicts `ours` is the version that is built on, `theirs` what is picked.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.cli.merge import conflict_table
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.cli.revert import measured_parts, version_line
    from mlflow_edit.operations.cherry_pick import cherry_pick

    with reporting(quiet=how.quiet) as reporter:
        made = cherry_pick(ref, batches, onto=onto, **settled, **how.settings(reporter))
    if how.as_json:
        render.print_json("cherry-pick", made.model_dump(mode="json"))
        return
    render.print_all(
        [
            version_line(made),
            *conflict_table(made.conflicts, made.resolutions),
            *measured_parts(made),
        ]
    )
