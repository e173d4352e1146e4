"""`mledit ask`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command("ask")
@options.ref
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@click.option("--max-new-tokens", default=64, show_default=True, type=click.IntRange(1, 4096))
@click.option("--explain", is_flag=True, help="List the edits nearest to each prompt, and why.")
@click.option(
    "--disable", "disabled", multiple=True, metavar="EDIT", help="Leave this edit out; repeatable."
)
@options.quiet
@options.as_json
def command(
    ref: str,
    prompts: tuple[str, ...],
    max_new_tokens: int,
    explain: bool,
    disabled: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Show the base model's and the edited answer side by side.

    Says which edit fired, and how far the prompt is from it.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.cli.blame import nearest_table
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.core.text import counted, how_near
    from mlflow_edit.operations.ask import ask

    with reporting(quiet=quiet) as reporter:
        found = ask(
            ref,
            prompts,
            max_new_tokens=max_new_tokens,
            explain=explain,
            disabled=disabled,
            reporter=reporter,
        )
    if as_json:
        render.print_json("ask", found.model_dump(mode="json"))
        return
    rows = []
    for answer in found.answers:
        fired = answer.fired
        who = "the base model answers"
        if found.deltas:
            who = f"the weights answer,\n{counted(len(found.deltas), 'delta')} in force"
        if fired:
            who = "\n".join(
                f"{one.edit_id}\n{how_near(one.distance, one.radius, one.match)}"
                for one in (fired, *answer.others)
            )
        rows.append((answer.prompt, answer.base, answer.edited, who))
    columns = ["asked", "base", f"{found.name}@{found.version}", "fired"]
    parts: list[RenderableType] = [render.table(columns, rows)]
    for answer in found.answers if explain else ():
        parts.append(render.line(f"near to: {render.clipped(answer.prompt)}", "bold"))
        parts.append(nearest_table(answer.nearest))
    render.print_all(parts)
