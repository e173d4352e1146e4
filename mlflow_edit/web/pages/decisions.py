"""Every decision about the versions of a model."""

from flask import Response

from mlflow_edit.operations.log import decisions_about
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.paging import part_of
from mlflow_edit.web.rendering import page

SHOWN = 100  # decisions on one page


def decisions(asked: Asked) -> Response:
    """Show who approved, rejected, promoted, rolled back and merged what, newest first."""
    made = decisions_about(asked.versions, asked.registry.ledger(asked.name))
    return page("decisions.html", name=asked.name, part=part_of(made[::-1], asked, SHOWN))
