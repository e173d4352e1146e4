"""Options that verbs share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mlflow_edit.operations.reporter import Reporter

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing while working.")
author = click.option("--author", metavar="WHO", help="Who; else MLEDIT_AUTHOR or git's user.")
message = click.option("-m", "--message", default="", metavar="MSG", help="Why.")
no_measure = click.option("--no-measure", is_flag=True, help="Leave the scorecard empty.")
suite = click.option("--suite", metavar="FILE", help="Questions and texts for test retention.")
_choices = click.option(
    "-X",
    "choices",
    multiple=True,
    metavar="KIND=CHOICE",
    help="Settle a kind of conflict: contradiction=ours|theirs|drop|both …",
)
_resolutions = click.option(
    "--resolutions", metavar="FILE", help="Settle single conflicts: lines of 'ID: choice'."
)
name = click.argument("name")
ref = click.argument("ref", metavar="NAME@REF")


@dataclass(frozen=True, slots=True)
class Publishing:
    """How a new version is measured, signed and told of."""

    message: str
    measured: bool
    suite: str | None
    author: str | None
    quiet: bool
    as_json: bool

    def settings(self, reporter: "Reporter") -> dict[str, Any]:
        """Return what every verb that publishes a version takes."""
        from mlflow_edit.operations.evaluate import read_suite

        return {
            "message": self.message,
            "measured": self.measured,
            "suite": read_suite(Path(self.suite)) if self.suite else None,
            "author": self.author,
            "reporter": reporter,
        }


def publishing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a verb that publishes a version, as one `how`."""
    shared = (as_json, quiet, author, suite, no_measure, message)

    @wraps(command)
    def gathered(
        *,
        message: str,
        no_measure: bool,
        suite: str | None,
        author: str | None,
        quiet: bool,
        as_json: bool,
        **own: Any,
    ) -> Any:
        how = Publishing(message, not no_measure, suite, author, quiet, as_json)
        return command(how=how, **own)

    for option in shared:
        gathered = option(gathered)
    return gathered


def settling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that settle conflicts, as one `settled` for the verb."""

    @wraps(command)
    def gathered(*, choices: tuple[str, ...], resolutions: str | None, **own: Any) -> Any:
        from mlflow_edit.operations.resolving import parse_choices, read_resolutions

        settled = {
            "choices": parse_choices(choices),
            "resolutions": read_resolutions(Path(resolutions)) if resolutions else None,
        }
        return command(settled=settled, **own)

    return _choices(_resolutions(gathered))
