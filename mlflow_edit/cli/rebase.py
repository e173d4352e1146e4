"""`mledit rebase`."""

import click

from mlflow_edit.cli import options

SAID = {"holds": "holds", "not-needed": "no longer needed", "lost": "no longer holds"}


@click.command("rebase")
@options.ref
@click.option("--onto", required=True, metavar="BASE", help="The new base model, as init takes it.")
@click.option(
    "--keep-needless", is_flag=True, help="Learn what the new base model answers right by itself."
)
@options.publishing
def command(
    ref: str,
    onto: str,
    keep_needless: bool,
    how: options.Publishing,
) -> None:
    """Carry the edits of NAME@REF to another base model; tell which it no longer needs."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.cli.revert import measured_parts, version_line
    from mlflow_edit.operations.rebase import rebase

    with reporting(quiet=how.quiet) as reporter:
        made = rebase(ref, onto=onto, keep_needless=keep_needless, **how.settings(reporter))
    if how.as_json:
        render.print_json("rebase", made.model_dump(mode="json"))
        return
    rows = [
        (
            SAID[one.state],
            one.id,
            render.clipped(one.prompt, 80),
            render.clipped(one.target, 40),
            render.clipped(one.before, 60),
            render.clipped(one.after, 60),
        )
        for one in made.rebased
    ]
    titles = ["", "edit", "asked", "target", "new base", "new version"]
    render.print_all([version_line(made), render.table(titles, rows), *measured_parts(made)])
