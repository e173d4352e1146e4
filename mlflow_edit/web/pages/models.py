"""The list of edited models."""

from dataclasses import dataclass

from flask import Response

from mlflow_edit.errors import MlflowEditError
from mlflow_edit.operations.log import log
from mlflow_edit.operations.version_view import VersionView
from mlflow_edit.registry.registry import Registry
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.paging import part_of
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
    names = [
        name
        for name in asked.registry.models()
        if wanted.casefold() in name.casefold() and asked.may_read(name)
    ]
    part = part_of(names, asked, SHOWN)
    rows = [_row(name, asked.registry) for name in part.items]
    return page("models.html", rows=rows, part=part, wanted=wanted)


def _row(name: str, registry: Registry) -> ModelRow:
    """Read the history of one model; what is wrong with one does not hide the others."""
    try:
        history = log(name, registry=registry)
    except MlflowEditError as error:
        return ModelRow(name, problem=error.message)
    aliases = sorted((alias, v.version) for v in history.versions for alias in v.aliases)
    head = history.versions[0] if history.versions else None
    return ModelRow(name, head, history.heads, tuple(aliases), "" if head else "no versions")
