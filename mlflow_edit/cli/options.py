"""Options that verbs share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing while working.")
author = click.option("--author", metavar="WHO", help="Who; else MLEDIT_AUTHOR or git's user.")
message = click.option("-m", "--message", default="", metavar="MSG", help="Why.")
no_measure = click.option(
    "--no-measure", is_flag=True, help="Leave the scorecard empty: no model is loaded."
)
suite = click.option("--suite", metavar="FILE", help="Questions and texts for test retention.")
choices = click.option(
    "-X",
    "choices",
    multiple=True,
    metavar="KIND=CHOICE",
    help="Settle a kind of conflict: contradiction=ours|theirs|drop|both …",
)
resolutions = click.option(
    "--resolutions", metavar="FILE", help="Settle single conflicts: lines of 'ID: choice'."
)
name = click.argument("name")
ref = click.argument("ref", metavar="NAME@REF")
