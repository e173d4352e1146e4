"""The list of edited models."""

from dataclasses import dataclass

from flask import Response

from mlflow_edit.errors import MlflowEditError
from mlflow_edit.operations.log import log
from mlflow_edit.operations.version_view import VersionView
from mlflow_edit.registry.registry import Registry
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.rendering import page

SHOWN = 50  # models on one page


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model as the list shows it; `head` is None where its history cannot be read."""

    name: str
    head: VersionView | None = None
    heads: tuple[int, ...] = ()
    aliases: tuple[tuple[str, int], ...] = ()
    problem: str = ""


def models(asked: Asked) -> Response:
    """List the models that the user may read, a page of them at a time."""
    wanted = asked.parameter("q", "").strip()
    first = _first(asked.parameter("from", "0"))
    names = [
        name
        for name in asked.registry.models()
        if wanted.casefold() in name.casefold() and asked.may_read(name)
    ]
    return page(
        "models.html",
        rows=[_row(name, asked.registry) for name in names[first : first + SHOWN]],
        wanted=wanted,
        first=first,
        n_models=len(names),
        shown=SHOWN,
    )


def _first(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


def _row(name: str, registry: Registry) -> ModelRow:
    """Read the history of one model; what is wrong with one does not hide the others."""
    try:
        history = log(name, registry=registry)
    except MlflowEditError as error:
        return ModelRow(name, problem=error.message)
    aliases = sorted((alias, v.version) for v in history.versions for alias in v.aliases)
    head = history.versions[0] if history.versions else None
    return ModelRow(name, head, history.heads, tuple(aliases), "" if head else "no versions")
