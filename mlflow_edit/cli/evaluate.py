"""`mledit eval`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command("eval")
@options.ref
@click.option("--suite", metavar="FILE", help="Questions and texts instead of the shipped ones.")
@options.quiet
@options.as_json
def command(ref: str, suite: str | None, quiet: bool, as_json: bool) -> None:
    """Measure a version again, or on other probes; keep it as a run."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.evaluate import evaluate

    with reporting(quiet=quiet) as reporter:
        found = evaluate(ref, suite=suite, reporter=reporter)
    if as_json:
        render.print_json("eval", found.model_dump(mode="json"))
        return
    card = found.scorecard.model_dump(mode="json")
    parts: list[RenderableType] = [
        render.line(f"{found.name}@{found.version} measured again, run {found.run_id}", "bold"),
        render.scorecard_table(card, found.changes),
    ]
    if found.failures:
        rows = [
            (
                row.metric.replace("_", " "),
                *map(render.clipped, (row.prompt, row.before, row.after)),
            )
            for row in found.failures
        ]
        parts.append(render.table(["not as it should be", "asked", "before", "after"], rows))
    render.print_all(parts, page=True)
