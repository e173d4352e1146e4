"""`mledit cherry-pick`."""

from pathlib import Path

import click

from mlflow_edit.cli import options


@click.command("cherry-pick")
@options.ref
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option("--onto", required=True, metavar="NAME@REF", help="The version to build on.")
@options.choices
@options.resolutions
@options.message
@options.no_measure
@options.suite
@options.author
@options.quiet
@options.as_json
def command(
    ref: str,
    batches: tuple[str, ...],
    onto: str,
    choices: tuple[str, ...],
    resolutions: str | None,
    message: str,
    no_measure: bool,
    suite: str | None,
    author: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Bring batches of NAME@REF to another line, or to another model of the same base.

    In conflicts `ours` is the version that is built on, `theirs` what is picked.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.cli.merge import conflict_table
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.cli.revert import measured_parts, version_line
    from mlflow_edit.operations.cherry_pick import cherry_pick
    from mlflow_edit.operations.evaluate import read_suite
    from mlflow_edit.operations.resolving import parse_choices, read_resolutions

    with reporting(quiet=quiet) as reporter:
        made = cherry_pick(
            ref,
            batches,
            onto=onto,
            choices=parse_choices(choices),
            resolutions=read_resolutions(Path(resolutions)) if resolutions else None,
            message=message,
            author=author,
            measured=not no_measure,
            suite=read_suite(Path(suite)) if suite else None,
            reporter=reporter,
        )
    if as_json:
        render.print_json("cherry-pick", made.model_dump(mode="json"))
        return
    render.print_all(
        [
            version_line(made),
            *conflict_table(made.conflicts, made.resolutions),
            *measured_parts(made),
        ]
    )
