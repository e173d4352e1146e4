"""Options that verbs share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing while working.")
author = click.option("--author", metavar="WHO", help="Who; else MLEDIT_AUTHOR or git's user.")
message = click.option("-m", "--message", default="", metavar="MSG", help="Why.")
name = click.argument("name")
ref = click.argument("ref", metavar="NAME@REF")
