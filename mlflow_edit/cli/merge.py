"""`mledit merge`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlflow_edit.core.conflicts import Conflict, ConflictSide
    from mlflow_edit.core.manifest import Resolution
    from mlflow_edit.operations.pairing import Merged


@click.command("merge")
@click.argument("ours", metavar="NAME@A")
@click.argument("theirs", metavar="NAME@B", required=False)
@click.option("--dry-run", is_flag=True, help="Find the conflicts; write and measure nothing.")
@click.option(
    "--strategy",
    type=click.Choice(["sum", "linear", "ties", "dare", "magnitude", "nullspace"]),
    help="How weight deltas of both sides are joined; sum unless said.",
)
@click.option("--density", type=float, metavar="SHARE", help="ties, dare, magnitude: what is kept.")
@click.option("--weight", type=float, metavar="X", help="Multiply both sides' deltas by this.")
@click.option("--seed", type=int, metavar="N", help="dare: of what is dropped at random.")
@click.option(
    "--try",
    "trying",
    type=click.Choice(["all"]),
    help="Measure every strategy; register nothing unless --strategy names one.",
)
@click.option("--continue", "go_on", is_flag=True, help="Finish the merge of NAME that is open.")
@click.option("--abort", is_flag=True, help="Give up the merge of NAME that is open.")
@options.settling
@options.publishing
def command(
    ours: str,
    theirs: str | None,
    dry_run: bool,
    trying: str | None,
    go_on: bool,
    abort: bool,
    settled: dict[str, Any],
    how: options.Publishing,
    **joining: Any,
) -> int:
    """Join two versions of NAME; or finish, or give up, a merge that stopped at conflicts.

    \b
    mledit merge demo@4 demo@5                        join two heads
    mledit merge demo@4 demo@5 --dry-run              what would be in conflict
    mledit merge demo@4 demo@5 -X contradiction=ours  settle a kind of conflict at once
    mledit merge demo@4 demo@5 --try all              which way of joining weights scores best
    mledit merge demo --continue                      after mledit conflicts resolve
    """
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.errors import MergeConflict
    from mlflow_edit.operations.merge import abort_merge, continue_merge, merge

    if (go_on or abort) == (theirs is not None) or (go_on and abort):
        raise click.UsageError("give NAME@A NAME@B, or NAME with --continue or --abort")
    with reporting(quiet=how.quiet) as reporter:
        given = {**settled, **joining, **how.settings(reporter), "try_all": trying == "all"}
        try:
            if abort:
                made = abort_merge(ours, author=how.author)
            elif go_on:
                made = continue_merge(ours, **given)
            else:
                made = merge(ours, theirs or "", dry_run=dry_run, **given)
        except MergeConflict as error:
            if error.outcome is None or not how.as_json:
                raise
            made = error.outcome
    _print(made, as_json=how.as_json)
    return 1 if made.unresolved else 0


def _print(made: "Merged", *, as_json: bool) -> None:
    from mlflow_edit.cli import render
    from mlflow_edit.cli.revert import measured_parts
    from mlflow_edit.core.scorecard import HEADLINE

    if as_json:
        render.print_json("merge", made.model_dump(mode="json"))
        return
    bases = ", ".join(f"@{base.version}" for base in made.merge_base) or "none"
    said = f"{made.name}: @{made.ours} and @{made.theirs}, merge base {bases}: {made.state}"
    parts: list[RenderableType] = [
        render.line(said, "bold"),
        *conflict_table(made.conflicts, made.resolutions),
    ]
    if made.state == "dry-run":
        left = f"{len(made.unresolved)} to resolve" if made.unresolved else "nothing to resolve"
        digest = made.content_digest
        said = f"; the content would be {render.short(digest)}" if digest else ""
        parts.append(render.line(left + said, "dim"))
    if made.tried:
        rows = [
            [one.strategy, *(render.number(getattr(one.scorecard, name)) for name in HEADLINE)]
            for one in made.tried
        ]
        titles = ["strategy", *(name.replace("_", " ") for name in HEADLINE)]
        parts.append(render.table(titles, rows))
    if made.merging is not None:
        parts.append(render.line(f"weights joined by {made.merging.said}"))
    if made.version is not None:
        now = f"{made.name}@{made.version.version}  {render.short(made.version.digest)}"
        parts.append(render.line(f"{now}  {made.version.message}", "bold"))
        parts += measured_parts(made.version)
    render.print_all(parts)


def conflict_table(
    conflicts: "Sequence[Conflict]", resolutions: "Sequence[Resolution]"
) -> "list[RenderableType]":
    """Show conflicts in a table, with what was chosen; or nothing."""
    from mlflow_edit.cli import render

    chosen = {resolution.conflict: resolution.choice for resolution in resolutions}

    def state(conflict: "Conflict") -> str:
        return chosen.get(conflict.id, "open" if conflict.blocking else "settled by rule")

    rows = [
        (
            c.id,
            f"{c.kind}\n({state(c)})",
            side_text(c.ours),
            side_text(c.theirs),
            c.message if c.distance is None else f"{c.message}; distance {c.distance:.2f}",
        )
        for c in conflicts
    ]
    return [render.table(["conflict", "kind", "ours", "theirs", ""], rows)] if rows else []


def side_text(side: "ConflictSide | None") -> str:
    """Say what one side of a conflict wants."""
    from mlflow_edit.cli import render

    if side is None:
        return ""
    if not side.edit:
        return f"weights of {render.short(side.batch)}"
    return f"{side.edit}: {render.clipped(side.prompt, 80)} → {render.clipped(side.target, 60)}"
