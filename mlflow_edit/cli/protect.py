"""`mledit protect`."""

import click

from mlflow_edit.cli import options


@click.command("protect")
@options.name
@click.argument("alias", required=False)
@click.option("--gate", metavar="FILE", help="Thresholds that must be met (YAML).")
@click.option("--off", is_flag=True, help="Take the gate off.")
@options.as_json
def command(name: str, alias: str | None, gate: str | None, off: bool, as_json: bool) -> None:
    """Let a gate stand on ALIAS of NAME, or take it off; without ALIAS, list the gates."""
    from mlflow_edit.cli import render
    from mlflow_edit.operations.protect import protect

    found = protect(name, alias, gate=gate, off=off)
    if as_json:
        written = {alias: gate.written() for alias, gate in found.gates.items()}
        render.print_json("protect", {"name": found.name, "gates": written})
        return
    if not found.gates:
        render.print_all([render.line(f"no alias of {found.name} is protected", "bold")])
        return
    rows = [(alias, said) for alias, gate in found.gates.items() for said in gate.said()]
    render.print_all([render.table(["alias", "may be held by a version with"], rows)])
