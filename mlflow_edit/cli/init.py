"""`mledit init`."""

import click

from mlflow_edit.cli import options


@click.command("init")
@options.name
@click.option(
    "--base",
    required=True,
    metavar="SRC",
    help="models:/…, runs:/…, a folder, a hub id, or smollm2.",
)
@options.message
@options.author
@options.quiet
@options.as_json
def command(
    name: str, base: str, message: str, author: str | None, quiet: bool, as_json: bool
) -> None:
    """Register the root version of NAME over a base model."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.init import init

    with reporting(quiet=quiet) as reporter:
        made = init(name, base=base, message=message, author=author, reporter=reporter)
    if as_json:
        render.print_json("init", made.model_dump(mode="json"))
        return
    for warning in made.warnings:
        click.echo(f"Note: {warning}", err=True)
    said = f"{made.name}@{made.version}  {render.short(made.digest)}  "
    render.print_all(
        [
            render.line(f"{said}base model {made.base.source} ({render.short(made.base.digest)})"),
            render.line(f"Next: mledit apply {made.name} edits.jsonl -m 'Why'", "dim"),
        ]
    )
