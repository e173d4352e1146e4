"""`mledit rollback`."""

import click

from mlflow_edit.cli import options


@click.command("rollback")
@options.name
@click.argument("alias")
@options.message
@options.author
@options.as_json
def command(name: str, alias: str, message: str, author: str | None, as_json: bool) -> None:
    """Point ALIAS at the version that held it before; again, at the one before that."""
    from mlflow_edit.cli.promote import print_promotion
    from mlflow_edit.operations.rollback import rollback

    made = rollback(name, alias, note=message, author=author)
    print_promotion("rollback", made, as_json=as_json)
