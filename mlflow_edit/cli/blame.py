"""`mledit blame`."""

import click

from mlflow_edit.cli import options


@click.command("blame")
@options.ref
@click.argument("prompt")
@options.quiet
@options.as_json
def command(ref: str, prompt: str, quiet: bool, as_json: bool) -> None:
    """Say which edit answers PROMPT, how near it is, and what brought it."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.blame import blame

    with reporting(quiet=quiet) as reporter:
        found = blame(ref, prompt, reporter=reporter)
    if as_json:
        render.print_json("blame", found.model_dump(mode="json"))
        return
    title = "The base model answers." if found.fired is None else "An edit answers."
    if found.edit and found.fired:
        inside = f"distance {found.fired.distance:.2f} within radius {found.fired.radius:.2f}"
        title = f"Edit {found.edit.id} answers: {inside}."
    facts = [("asked", found.prompt), ("answer", found.answer), ("base", found.base_answer)]
    if found.edit:
        facts.append(("edit", f"{found.edit.prompt} → {found.edit.target}"))
        facts += [("note", found.edit.note)] if found.edit.note else []
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
    parts = [render.line(title, "bold")]
    parts += [render.line(f"  {key:<9}{render.clipped(value)}") for key, value in facts]
    if found.nearest:
        rows = [
            (
                c.edit_id,
                f"{c.distance:.2f}",
                f"{c.radius:.2f}",
                "inside" if c.inside else f"{c.distance / c.radius:.1f} radii away",
                render.clipped(c.prompt, 80),
            )
            for c in found.nearest
        ]
        table = render.table(["nearest edits", "distance", "radius", "", "asked"], rows)
        render.print_all([*parts, table])
        return
    render.print_all([*parts, render.line("  No edit is near: none has the prompt's last token.")])
