"""`mledit log`."""

import textwrap
from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from mlflow_edit.operations.log import Decisions, History
    from mlflow_edit.operations.version_view import VersionView

INDENT = " " * 11  # of what stands beside a title
LINE = 64


@click.command("log")
@options.name
@click.argument("span", required=False, metavar="[A..B]")
@click.option("--oneline", is_flag=True, help="One line for each version.")
@click.option("--graph", is_flag=True, help="Draw forks and merges.")
@click.option("--promotions", is_flag=True, help="Show decisions instead: who moved which alias.")
@options.as_json
def command(
    name: str, span: str | None, oneline: bool, graph: bool, promotions: bool, as_json: bool
) -> None:
    """Show the history of NAME, newest first, or only what is in B and not in A."""
    from mlflow_edit.cli import render
    from mlflow_edit.operations.log import decisions, log

    if promotions and (span or oneline or graph):
        raise click.UsageError("--promotions goes with none of A..B, --oneline and --graph")
    if promotions:
        made = decisions(name)
        if as_json:
            render.print_json("log", made.model_dump(mode="json"))
        else:
            render.print_all(_decision_parts(made), page=True)
        return
    history = log(name, span)
    if as_json:
        render.print_json("log", history.model_dump(mode="json"))
        return
    render.print_all(history_parts(history, oneline=oneline, graph=graph), page=True)


def history_parts(
    history: "History", *, oneline: bool, graph: bool = False
) -> "list[RenderableType]":
    """Show versions, newest first."""
    from mlflow_edit.cli import render
    from mlflow_edit.core import lineage

    parts: list[RenderableType] = []
    if len(history.heads) > 1:
        numbers = ", ".join(map(str, history.heads))
        hint = "of the same content"
        if len(history.to_join) > 1:
            a, b = history.to_join[-2:]
            hint = f"mledit merge {history.name}@{a} {history.name}@{b} joins them"
        parts.append(
            render.line(f"{len(history.heads)} heads: versions {numbers}; {hint}", "yellow")
        )
    by_digest = {version.digest: version for version in history.versions}
    if not graph:
        for version in history.versions:
            parts += _oneline(version) if oneline else _whole(version)
        return parts
    for drawing, digest in lineage.graph({v.digest: v.parents for v in history.versions}):
        if digest is None:
            parts.append(render.line(drawing))
            continue
        lines = _oneline(by_digest[digest], width=0)
        parts.append(render.line(f"{drawing}  ").append_text(lines[0]))
    return parts


def _oneline(v: "VersionView", width: int = 4) -> "list[Text]":
    from mlflow_edit.cli import render

    known = f" ({', '.join(v.aliases)})" if v.aliases else ""
    known += f" ({_contextual(v)})" if v.n_contextual else ""
    first = f"{v.version:>{width}}  {render.short(v.digest)}{known}  "
    return [render.line(first + render.clipped(v.message, 80))]


def _whole(v: "VersionView") -> "list[Text]":
    from mlflow_edit.cli import render
    from mlflow_edit.core.text import counted

    known = f" ({', '.join(v.aliases)})" if v.aliases else ""
    parents = ", ".join(render.short(parent) for parent in v.parents) or "none"
    parts = [
        render.line(f"version {v.version}{known}  {render.short(v.digest)}", "bold"),
        render.line(f"  author   {v.author}\n  date     {v.created_at}"),
        render.line(f"  parents  {parents}"),
        render.line(f"  edits    {v.n_edits} in {counted(v.n_batches, 'batch', 'batches')}"),
    ]
    if v.n_contextual:
        parts.append(render.line(f"  deltas   {_contextual(v)}", "yellow"))
    measured = [
        f"{metric.replace('_', ' ')} {value:.3f}"
        for metric, value in (v.scorecard or {}).items()
        if value is not None
    ]
    if measured:
        parts.append(render.line("  measured " + _in_lines(measured)))
    return [*parts, render.line(f"\n    {v.message}\n")]


def _in_lines(measured: list[str]) -> str:
    """Write metrics in lines that fit a terminal, none of them broken."""
    whole = ", ".join(one.replace(" ", "\N{NO-BREAK SPACE}") for one in measured)
    lines = textwrap.wrap(whole, LINE)
    return f"\n{INDENT}".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _contextual(v: "VersionView") -> str:
    return f"{v.n_contextual} contextual"


def _decision_parts(made: "Decisions") -> "list[RenderableType]":
    from mlflow_edit.cli import render

    rows = []
    for one in reversed(made.promotions):
        about = f"@{one.version}" if one.version is not None else ""
        if one.conflict:
            about = f"{one.conflict}: {one.choice}"
        elif one.kind == "merge-opened":
            about = f"@{one.previous} and {about}"
        moved = f"{one.alias}: @{one.previous or '-'} → {about}" if one.alias else about
        failed = [c["name"] for c in (one.gate or {}).get("checks", []) if not c["passed"]]
        why = "; ".join([*([one.note] if one.note else []), *failed])
        when = one.at[:19].replace("T", " ")
        rows.append((str(one.number), one.kind, moved, one.who, when, render.clipped(why)))
    if not rows:
        return [render.line(f"No decision about {made.name} is on record.")]
    return [render.table(["", "decision", "version", "who", "when (UTC)", "why"], rows)]
