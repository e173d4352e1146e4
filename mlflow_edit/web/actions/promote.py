"""Point an alias at a version: first the gate's checks and who holds the alias, then the move."""

from flask import Response

from mlflow_edit.core.gate import Gate, parse_gate
from mlflow_edit.core.ledger import Move
from mlflow_edit.operations import promote as verb
from mlflow_edit.operations.rehearsal import rehearsed
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.rendering import page, see_other

NOTHING = "none"  # as the verb calls it where nothing holds an alias


def promote(asked: Asked) -> Response:
    """Show what the promotion would be; once that is confirmed, do it."""
    info, alias = asked.unchanged_version(), asked.field("alias").strip()
    text = asked.field("gate", "")
    gate = parse_gate(text) if text.strip() else None
    if not asked.ticked("confirmed"):
        return _preview(asked, info, alias, gate)
    made = verb.promote(
        asked.ref(info),
        to=alias,
        gate=gate,
        if_current=asked.holder(),
        note=asked.field("note", ""),
        author=asked.user,
        registry=asked.registry,
    )
    return see_other("/version", name=info.name, version=info.version, entry=made.number)


def _preview(asked: Asked, info: VersionInfo, alias: str, gate: Gate | None) -> Response:
    note = asked.field("note", "")

    def would(registry: Registry) -> object:
        ref = asked.ref(info)
        return verb.promote(
            ref, to=alias, gate=gate, note=note, author=asked.user, registry=registry
        )

    move = rehearsed(would, asked.registry)
    assert isinstance(move, Move)
    return page(
        "promote.html",
        info=info,
        move=move,
        holder=version_of(asked, info.name, move.previous),
        nothing=NOTHING,
        gate=asked.field("gate", ""),
        note=note,
    )


def version_of(asked: Asked, name: str, digest: str | None) -> VersionInfo | None:
    """Return the version of a digest, None where there is none."""
    return next((one for one in asked.registry.versions(name) if one.digest == digest), None)
