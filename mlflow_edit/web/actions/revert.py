"""Take batches or edits out of a version: choose, look at what would go and come back, do it."""

from typing import TYPE_CHECKING

from flask import Response

from mlflow_edit.errors import InvalidInputError
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.operations.show import edits_in_force
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.rendering import page, see_other

if TYPE_CHECKING:  # pages must not wait for torch
    from mlflow_edit.operations.revert import Reverted

SHOWN = 500  # edits that can be chosen from
MAX_TARGETS = 200
TIME_LIMIT = 1800.0  # seconds


def choose(asked: Asked) -> Response:
    """List the batches of a version and their edits in force."""
    info = asked.version()
    manifest = asked.registry.manifest(info)
    found = edits_in_force(asked.registry, manifest)
    edits: dict[str, list[object]] = {ref.digest: [] for ref in manifest.batches}
    for batch, edit in found[:SHOWN]:
        edits[batch].append(edit)
    return page(
        "revert.html", info=info, manifest=manifest, edits=edits, left_out=len(found) - SHOWN
    )


def revert(asked: Asked) -> Response:
    """Show what the revert would do; once that is confirmed, queue it."""
    from mlflow_edit.operations import revert as verb

    info, targets = asked.unchanged_version(), asked.fields("target")
    cascade, replay = asked.ticked("cascade"), asked.ticked("replay")
    if len(targets) > MAX_TARGETS:
        raise InvalidInputError(
            f"{len(targets):,} batches and edits were chosen; at most {MAX_TARGETS} go at once",
            hint="Choose whole batches.",
        )
    ref, registry, user = asked.ref(info), asked.registry, asked.user
    if not asked.ticked("confirmed"):
        preview = verb.preview_revert(ref, targets, cascade=cascade, registry=registry)
        return page(
            "revert_confirm.html",
            info=info,
            preview=preview,
            targets=targets,
            cascade=cascade,
            replay=replay,
            n_models=asked.jobs.n_models,
        )
    message, measured = asked.field("message", ""), asked.ticked("measured")

    def work(reporter: Reporter) -> "Reverted":
        return verb.revert(
            ref,
            targets,
            cascade=cascade,
            replay=replay,
            message=message,
            author=user,
            measured=measured,
            registry=registry,
            reporter=reporter,
        )

    job = asked.jobs.submit(
        "revert",
        f"Reverting {len(targets)} of {ref}" if len(targets) > 1 else f"Reverting in {ref}",
        work,
        name=info.name,
        user=user,
        about={
            "version": info.version, "targets": targets, "cascade": cascade,
            "replay": replay, "measured": measured, "message": message,
        },
        limit=TIME_LIMIT,
    )  # fmt: skip
    return see_other("/job", name=info.name, id=job.id)
