"""`mledit reject`."""

import click

from mlflow_edit.cli import options


@click.command("reject")
@options.ref
@options.message
@options.author
@options.as_json
def command(ref: str, message: str, author: str | None, as_json: bool) -> None:
    """Reject NAME@REF, with a comment; the last word counts."""
    from mlflow_edit.cli import render
    from mlflow_edit.operations.verdicts import reject

    found = reject(ref, note=message, author=author)
    if as_json:
        render.print_json("reject", found.model_dump(mode="json"))
        return
    said = f"{found.name}@{found.version} {found.verdict} by {found.who}"
    render.print_all([render.line(said, "bold")])
