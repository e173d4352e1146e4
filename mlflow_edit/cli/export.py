"""`mledit export`."""

import click

from mlflow_edit.cli import options

USE = {
    "packed": 'mlflow.pyfunc.load_model("{0}").predict(["A question?"])',
    "merged": 'AutoModelForCausalLM.from_pretrained("{0}")',
    "lora": 'PeftModel.from_pretrained(base, "{0}")',
}


@click.command("export")
@options.ref
@click.argument("folder")
@click.option(
    "--as",
    "form",
    type=click.Choice(list(USE)),
    default="packed",
    show_default=True,
    help="With all it needs, as a plain transformers model, or as an adapter of peft.",
)
@click.option("--register", metavar="NAME", help="Register the merged model in MLflow, too.")
@options.quiet
@options.as_json
def command(
    ref: str, folder: str, form: str, register: str | None, quiet: bool, as_json: bool
) -> None:
    """Write NAME@REF into FOLDER: packed with all it needs, as a plain model, or as an adapter."""
    from typing import cast

    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.export import Form, export

    with reporting(quiet=quiet) as reporter:
        made = export(ref, folder, form=cast(Form, form), register=register, reporter=reporter)
    if as_json:
        render.print_json("export", made.model_dump(mode="json"))
        return
    size = f"{made.n_files} files, {made.bytes:,} bytes"
    parts = [render.line(f"{made.name}@{made.version} in {made.folder}: {size}", "bold")]
    if made.registered:
        parts.append(render.line(f"registered as {made.registered}"))
    parts.append(render.line("  " + USE[made.form].format(made.folder), "dim"))
    render.print_all(parts)
