"""`mledit bisect`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from mlflow_edit.operations.bisect_tests import BisectTest

ONLY_SKIPPED = 2


@click.command("bisect")
@click.argument("bad", metavar="NAME@BAD")
@click.option("--good", metavar="NAME@GOOD", help="A version that is right; else the base model.")
@click.option("--subset", is_flag=True, help="Find the smallest set of edits, not of batches.")
@click.option("--prompt", metavar="TEXT", help="Judge by the answer to this.")
@click.option("--expect", metavar="ANSWER", help="Good where the answer begins like this.")
@click.option("--unwanted", metavar="ANSWER", help="Bad where the answer begins like this.")
@click.option("--metric", help="Judge by a metric of the suite.")
@click.option("--threshold", type=float, help="Bad where the metric is worse than this.")
@options.suite
@click.option("--run", "run_command", metavar="CMD", help="Judge by the exit code of a command.")
@options.quiet
@options.as_json
def command(
    bad: str,
    good: str | None,
    subset: bool,
    prompt: str | None,
    expect: str | None,
    unwanted: str | None,
    metric: str | None,
    threshold: float | None,
    suite: str | None,
    run_command: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Find which batch, or which smallest set of edits, makes NAME@BAD go wrong.

    \b
    mledit bisect demo@9 --prompt "Who wrote Emma?" --unwanted "Charles Dickens"
    mledit bisect demo@9 --good demo@5 --metric locality --threshold 0.9
    mledit bisect demo@9 --subset --run 'python check.py'

    CMD finds the candidate, exported, in the folder $MLEDIT_MODEL. Its exit code: 0 good, 125
    skip, 1 to 127 bad, 128 and more aborts. Exits with 0 where something was found, 1 where the
    ends are not as said, 2 where skipped candidates stand in the way.
    """
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.cli.revert import edit_refs
    from mlflow_edit.operations.bisect import bisect

    if (metric is None) != (threshold is None) or (expect or unwanted) and prompt is None:
        raise click.UsageError("--threshold goes with --metric, --expect with --prompt")
    test = _test(prompt, expect, unwanted, metric, threshold, suite, run_command)
    with reporting(quiet=quiet) as reporter:
        found = bisect(bad, test, good=good, subset=subset, reporter=reporter)
    if as_json:
        render.print_json("bisect", found.model_dump(mode="json"))
    else:
        start = "the base model" if found.good is None else f"@{found.good}"
        n = len(found.batches)
        said = f"{found.name}: {start} is good, @{found.bad} is bad; {n} to blame"
        said = said if n != 1 else f"{said}: batch {render.short(found.batches[0])}"
        parts = [render.line(f"{said} ({found.n_tests} tests)", "bold")]
        if found.state == "skipped":
            parts.append(render.line("Candidates that could not be judged stand in the way."))
        render.print_all(
            [
                *parts,
                *edit_refs("its presence", found.added),
                *edit_refs("its absence", found.removed),
            ]
        )
    return ONLY_SKIPPED if found.state == "skipped" else 0


def _test(
    prompt: str | None,
    expect: str | None,
    unwanted: str | None,
    metric: str | None,
    threshold: float | None,
    suite: str | None,
    run_command: str | None,
) -> "BisectTest":
    from mlflow_edit.operations.bisect_tests import answer_test, command_test, score_test
    from mlflow_edit.operations.evaluate import read_suite
    from mlflow_edit.operations.open_registry import open_registry

    if sum(given is not None for given in (prompt, metric, run_command)) != 1:
        raise click.UsageError("judge by one of --prompt, --metric and --run")
    if prompt is not None:
        return answer_test(prompt, expected=expect, unwanted=unwanted)
    if metric is not None and threshold is not None:
        return score_test(metric, threshold, read_suite(Path(suite)) if suite else None)
    return command_test(run_command or "", open_registry())
