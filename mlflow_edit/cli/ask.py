"""`mledit ask`."""

import click

from mlflow_edit.cli import options


@click.command("ask")
@options.ref
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@click.option("--max-new-tokens", default=64, show_default=True, type=click.IntRange(1, 4096))
@options.quiet
@options.as_json
def command(
    ref: str, prompts: tuple[str, ...], max_new_tokens: int, quiet: bool, as_json: bool
) -> None:
    """Show the base model's and the edited answer side by side.

    Says which edit fired, and how far the prompt is from it.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.ask import ask

    with reporting(quiet=quiet) as reporter:
        found = ask(ref, prompts, max_new_tokens=max_new_tokens, reporter=reporter)
    if as_json:
        render.print_json("ask", found.model_dump(mode="json"))
        return
    rows = []
    for answer in found.answers:
        fired = answer.fired
        who = "the base model answers"
        if fired:
            who = f"{fired.edit_id}\ndistance {fired.distance:.2f} of {fired.radius:.2f}"
        rows.append((answer.prompt, answer.base, answer.edited, who))
    columns = ["asked", "base", f"{found.name}@{found.version}", "fired"]
    render.print_all([render.table(columns, rows)])
