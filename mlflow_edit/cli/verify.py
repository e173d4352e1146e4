"""`mledit verify`."""

from typing import TYPE_CHECKING

import click

from mlflow_edit.cli import options

if TYPE_CHECKING:
    from rich.console import RenderableType

DAMAGED = 4


@click.command("verify")
@click.argument("name", required=False)
@click.option("--fix", is_flag=True, help="Mend tags and aliases; nothing is deleted.")
@options.quiet
@options.as_json
def command(name: str | None, fix: bool, quiet: bool, as_json: bool) -> int:
    """Check all that is stored of NAME, or of every model. Exits with 4 where it is not whole."""
    from mlflow_edit.cli import render
    from mlflow_edit.cli.progress import reporting
    from mlflow_edit.operations.verify import verify

    with reporting(quiet=quiet) as reporter:
        found = verify(name, fix=fix, reporter=reporter)
    code = 0 if found.ok else DAMAGED
    if as_json:
        render.print_json("verify", found.model_dump(mode="json"))
        return code
    counts = ", ".join(f"{what} {n}" for what, n in found.checked.model_dump().items())
    said = "All is as it was registered." if found.ok else "Something is not as it was registered."
    parts: list[RenderableType] = [
        render.line(said, "bold" if found.ok else "bold red"),
        render.line(f"  {counts}"),
    ]
    left = [
        (p.where, p.message, "--fix mends it" if p.fixable and not fix else "")
        for p in found.problems
        if not p.fixed
    ]
    if left:
        parts.append(render.table(["where", "problem", ""], left))
    mended = [(p.where, p.message) for p in found.problems if p.fixed]
    if mended:
        parts.append(render.table(["where", "fixed"], mended))
    if found.orphans:
        orphans = [(o.name, o.kind, o.id, o.status, f"{o.age:,.0f} s") for o in found.orphans]
        parts.append(render.table(["orphans of", "kind", "id", "status", "age"], orphans))
        parts.append(render.line("They harm nothing; mledit gc removes them.", "dim"))
    render.print_all(parts, page=True)
    return code
