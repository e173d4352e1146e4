"""`mledit blame`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from mlflow_edit.operations.blame import Blamed
    from mlflow_edit.operations.nearest import Candidate


def nearest_table(nearest: "Sequence[Candidate]") -> "RenderableType":
    """Show the edits nearest to a question, and how near each is."""
    from mlflow_edit.cli import render

    if not nearest:
        return render.line("  No edit is near.")
    rows = [(c.edit_id, c.said, c.fires, render.clipped(c.prompt, 80)) for c in nearest]
    return render.table(["nearest edits", "", "fires", "asked"], rows)


def _decided(found: "Blamed") -> str:
    """Say which deltas the answer hangs on."""
    from mlflow_edit.cli import render
    from mlflow_edit.operations.blame import MOST_LEFT_OUT

    if found.answer == found.base_answer:
        return "they say what the base model says"
    decisive = [render.short(batch) for batch in found.decisive]
    if not decisive:
        more = len(found.deltas) > MOST_LEFT_OUT
        them = f"the {MOST_LEFT_OUT} nearest in words" if more else "them"
        return f"it is the same without any one of {them}"
    return f"it would be another without {' or '.join(decisive)}"


@click.command("blame")
@options.ref
@click.argument("prompt")
@options.quiet
@options.as_json
def command(ref: str, prompt: str, quiet: bool, as_json: bool) -> None:
    """Say which edit answers PROMPT, how near it is, and what brought it."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.core.text import counted, how_near
    from mlflow_edit.operations.blame import blame

    with reporting(quiet=quiet) as reporter:
        found = blame(ref, prompt, reporter=reporter)
    if as_json:
        render.print_json("blame", found.model_dump(mode="json"))
        return
    title = "The base model answers." if found.fired is None else "An edit answers."
    if found.deltas and found.fired is None:
        n_deltas = counted(len(found.deltas), "delta")
        title = f"The weights answer, with {n_deltas} in force: {_decided(found)}."
    if found.edit and (fired := found.fired):
        near = how_near(fired.distance, fired.radius, fired.match)
        title = f"Edit {found.edit.id} answers: {near}."
    facts = [("asked", found.prompt), ("answer", found.answer), ("base", found.base_answer)]
    if found.edit:
        facts.append(("edit", f"{found.edit.prompt} → {found.edit.target}"))
        facts += [("note", found.edit.note)] if found.edit.note else []
    for other in found.others:
        near = how_near(other.distance, other.radius, other.match)
        facts.append(("also", f"edit {other.edit_id} answers another question: {near}"))
    if found.origin:
        o = found.origin
        facts.append(("version", f"{found.name}@{o.version}  {o.message}"))
        facts.append(("by", f"{o.author}, {o.created_at}"))
        facts.append(("run", o.run_id))
        if o.edits_from:
            p = o.edits_from
            commit = f"commit {p.commit[:12]} " if p.commit else ""
            dirty = " (with uncommitted changes)" if p.dirty else ""
            facts.append(("from", f"{p.path or ''} {commit}{p.author or ''}{dirty}".strip()))
    for delta in found.deltas:
        brought = f"@{delta.origin.version} by {delta.origin.author}"
        of = f"{delta.editor}, {counted(delta.n_edits, 'edit')}"
        said = f"{render.short(delta.batch)} {of}, {brought}"
        facts.append(("delta", said))
        if delta.without is not None:
            same = delta.without == found.answer
            instead = render.clipped(delta.without, 90)
            facts.append(("", f"without it: {'the same' if same else instead}"))
    parts = [render.line(title, "bold")]
    parts += [render.line(f"  {key:<9}{render.clipped(value)}") for key, value in facts]
    render.print_all([*parts, nearest_table(found.nearest)])
