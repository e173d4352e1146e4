"""`mledit export`."""

import click

from mlflow_edit.cli import options


@click.command("export")
@options.ref
@click.argument("folder")
@options.quiet
@options.as_json
def command(ref: str, folder: str, quiet: bool, as_json: bool) -> None:
    """Pack NAME@REF with all it needs into FOLDER; mlflow.pyfunc opens it with no server."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.export import export

    with reporting(quiet=quiet) as reporter:
        made = export(ref, folder, reporter=reporter)
    if as_json:
        render.print_json("export", made.model_dump(mode="json"))
        return
    size = f"{made.n_files} files, {made.bytes:,} bytes"
    said = f"{made.name}@{made.version} in {made.folder}: {size}"
    use = f'  mlflow.pyfunc.load_model("{made.folder}").predict(["A question?"])'
    render.print_all([render.line(said, "bold"), render.line(use, "dim")])
