"""`mledit promote`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlflow_edit.operations.aliases import Promotion


@click.command("promote")
@options.ref
@click.option("--to", "alias", required=True, metavar="ALIAS", help="For example production.")
@click.option("--gate", metavar="FILE", help="Thresholds that must be met (YAML).")
@click.option(
    "--quorum",
    type=click.IntRange(1, 10),
    metavar="N",
    help="Reviewers who must approve each changed edit.",
)
@click.option("--not-author", is_flag=True, help="Who made a change does not approve it.")
@click.option("--if-current", metavar="REF", help="Only if this holds the alias now, or 'none'.")
@click.option("--stages", is_flag=True, help="Move MLflow's deprecated stage as well.")
@options.message
@options.author
@options.as_json
def command(
    ref: str,
    alias: str,
    gate: str | None,
    quorum: int | None,
    not_author: bool,
    if_current: str | None,
    stages: bool,
    message: str,
    author: str | None,
    as_json: bool,
) -> None:
    """Point ALIAS at NAME@REF, if it meets the gate. Every move and refusal is recorded."""
    from mlflow_edit.operations.promote import promote

    made = promote(
        ref,
        to=alias,
        gate=gate,
        quorum=quorum,
        not_author=not_author,
        if_current=if_current,
        stages=stages,
        note=message,
        author=author,
    )
    print_promotion("promote", made, as_json=as_json)


def print_promotion(verb: str, made: "Promotion", *, as_json: bool) -> None:
    """Print a move of an alias."""
    from mlflow_edit.cli import render

    if as_json:
        render.print_json(verb, made.model_dump(mode="json"))
        return
    was = f"was @{made.previous}" if made.previous is not None else "was free"
    said = f"{made.name}@{made.version} is now {made.alias} ({was})"
    parts: list[RenderableType] = [render.line(said, "bold")]
    if made.gate:
        rows = [
            (
                "ok" if c.passed else "failed",
                c.name,
                "-" if c.value is None else f"{c.value:.4g}",
                c.said,
            )
            for c in made.gate.checks
        ]
        parts.append(render.table(["", "check", "value", ""], rows))
    if verb == "promote" and made.previous is not None:
        undo = f"Take it back: mledit rollback {made.name} {made.alias}"
        parts.append(render.line(undo, "dim"))
    render.print_all(parts)
