"""`mledit demo`."""

import click

from mlflow_edit.cli import options


@click.command("demo")
@click.option("--name", default="demo", show_default=True, help="The registered model to make.")
@options.quiet
@options.as_json
def command(name: str, quiet: bool, as_json: bool) -> None:
    """Correct eight mistakes of SmolLM2-135M, from download to registered version."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.apply import applied_parts
    from mlflow_edit.cli.log import history_parts
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.demo import demo

    with reporting(quiet=quiet) as reporter:
        made = demo(name=name, reporter=reporter)
    if as_json:
        fields = made.model_dump(mode="json")
        render.print_json("demo", {**fields.pop("applied"), **fields})
        return
    uri = made.tracking_uri
    steps = f"""
Ask it yourself   mledit ask {name} "Who won the FIFA World Cup in 2022?" "Who wrote Hamlet?"
Look at an edit   mledit inspect {name} world-cup-2022
Open the pages    {f"{uri}/#/models/{name}" if uri.startswith("http") else "mledit ui"}"""
    parts = [*applied_parts(made.applied), render.line("History", "bold")]
    parts += [*history_parts(made.history, oneline=True), render.line(steps)]
    render.print_all(parts)
