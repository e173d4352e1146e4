"""Take a promotion back: first what the alias would point at, then the move."""

from flask import Response

from mlflow_edit.core.ledger import Move
from mlflow_edit.operations import rollback as verb
from mlflow_edit.operations.rehearsal import rehearsed
from mlflow_edit.registry.registry import Registry
from mlflow_edit.web.actions.promote import NOTHING, version_of
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.rendering import page, see_other


def rollback(asked: Asked) -> Response:
    """Show where the alias would go; once that is confirmed, move it."""
    info, alias, note = asked.unchanged_version(), asked.field("alias"), asked.field("note", "")
    if asked.ticked("confirmed"):
        made = verb.rollback(
            info.name,
            alias,
            if_current=asked.holder(),
            note=note,
            author=asked.user,
            registry=asked.registry,
        )
        return see_other("/version", name=info.name, version=made.version, entry=made.number)

    def would(registry: Registry) -> object:
        return verb.rollback(info.name, alias, note=note, author=asked.user, registry=registry)

    move = rehearsed(would, asked.registry)
    assert isinstance(move, Move)
    return page(
        "rollback.html",
        info=info,
        move=move,
        holder=version_of(asked, info.name, move.previous),
        target=version_of(asked, info.name, move.to),
        nothing=NOTHING,
        note=note,
    )
