"""`mledit ui`."""

from collections.abc import Iterable

import click

from mlflow_edit.cli import options

CHATTER = "[MLflow] Security middleware enabled"  # no setting of MLflow's turns this line off


@click.command("ui")
@click.option("--host", default="127.0.0.1", show_default=True, help="Who may reach it.")
@click.option(
    "--port",
    default=5000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Where it listens.",
)
@options.as_json
def command(host: str, port: int, as_json: bool) -> int:
    """Start MLflow's server with the pages of mledit on the current store."""
    from mlflow_edit.cli.main import INTERRUPTED

    try:
        _serve(host, port, as_json)
    except KeyboardInterrupt:  # which is how a server is ended
        return INTERRUPTED
    return 0


def _serve(host: str, port: int, as_json: bool) -> None:
    from mlflow_edit.cli import render
    from mlflow_edit.errors import RegistryError
    from mlflow_edit.operations.ui import ui

    with ui(host=host, port=port) as (served, server):
        if as_json:
            render.print_json("ui", served.model_dump(mode="json"))
        else:
            click.echo(f"{served.address} on {served.store}, acting as {served.acts_as}")
        if not served.is_private:
            click.echo(f"Warning: whoever reaches {host} acts as {served.acts_as}.", err=True)
        said = _relay(server.stdout or ())
        code = server.wait()
    if code or said:  # MLflow's command ends with 0 also where its server failed
        raise RegistryError("the server ended", hint="Its last lines, above, say why.")


def _relay(lines: Iterable[str]) -> bool:
    """Show what the server says, which are errors, until it ends; tell whether it said any."""
    said = False
    for line in lines:
        if not line.startswith(CHATTER):
            click.echo(line, nl=False, err=True)
            said = True
    return said
