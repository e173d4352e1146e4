"""Join two versions: look at the conflicts, choose, look again, then do it."""

from typing import TYPE_CHECKING, Any

from flask import Response

from mlflow_edit.errors import InvalidInputError, MergeConflict
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.registry.registry import VersionInfo
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.forgery import came_from_here
from mlflow_edit.web.jobs import Work
from mlflow_edit.web.rendering import page, see_other

if TYPE_CHECKING:  # pages must not wait for torch
    from mlflow_edit.operations.pairing import Merged

OF_CONFLICT, OF_KIND = "choice:", "kind:"
MAX_MESSAGE = 1000
PREVIEW_LIMIT, TIME_LIMIT = 300.0, 1800.0  # seconds
STRATEGIES = {
    "sum": "both sides' are in force, and each can be reverted alone",
    "linear": "the mean of both",
    "ties": "the largest elements of each; where they pull against one another, the stronger side",
    "dare": "elements of each dropped at random, the rest rescaled and added",
    "magnitude": "the largest elements of each, added",
    "nullspace": "each kept out of the directions that the other answers to",
}
"""How the weight deltas of both sides are joined, and what that does."""


def preview(asked: Asked) -> Response:
    """Ask which version to join with; look for the conflicts where one is named."""
    info, here = asked.version(), came_from_here(asked.user)
    others = [one for one in asked.versions if one.digest != info.digest]
    other = asked.version("with") if asked.parameter("with", "") else None
    if other is None or not here:
        return page("merge_with.html", info=info, others=others[::-1], chosen=other)
    return _queue(asked, _about(asked, info, other, {}))


def merge(asked: Asked) -> Response:
    """Look again with what was chosen for the conflicts; once that is confirmed, queue the merge.

    Nothing is left open in the ledger: what is not resolved is refused.
    """
    info, other = asked.unchanged_version(), asked.unchanged_version("with", "theirs")
    chosen = {key: asked.field(key) for key in asked.form if key.startswith((OF_CONFLICT, OF_KIND))}
    about = _about(asked, info, other, {key: choice for key, choice in chosen.items() if choice})
    return _queue_merge(asked, about) if asked.ticked("confirmed") else _queue(asked, about)


def _queue(asked: Asked, about: dict[str, Any]) -> Response:
    job = asked.jobs.submit(
        "merge-preview",
        f"Looking for the conflicts of versions {about['version']} and {about['with']}",
        _work(asked, about, dry_run=True, message="", measured=False),
        name=asked.name,
        user=asked.user,
        about=about,
        limit=PREVIEW_LIMIT,
    )
    return see_other("/job", name=asked.name, id=job.id)


def _queue_merge(asked: Asked, about: dict[str, Any]) -> Response:
    measured, message = asked.ticked("measured"), asked.field("message", "")
    if len(message) > MAX_MESSAGE:
        raise InvalidInputError(f"the message has {len(message):,} characters")
    if asked.ticked("worse"):
        accepted = {f"{OF_KIND}metric-regression": "accept"}
        about = {**about, "chosen": {**about["chosen"], **accepted}}
    job = asked.jobs.submit(
        "merge",
        f"Merging versions {about['version']} and {about['with']} of {asked.name}",
        _work(asked, about, dry_run=False, message=message, measured=measured),
        name=asked.name,
        user=asked.user,
        about={**about, "message": message, "measured": measured},
        limit=TIME_LIMIT,
    )
    return see_other("/job", name=asked.name, id=job.id)


def _about(
    asked: Asked, ours: VersionInfo, theirs: VersionInfo, chosen: dict[str, str]
) -> dict[str, Any]:
    strategy = asked.field("strategy", "sum")
    if strategy not in STRATEGIES:
        raise InvalidInputError("weights cannot be joined so", hint=f"{', '.join(STRATEGIES)}.")
    manifests = [asked.registry.manifest(one) for one in (ours, theirs)]
    return {
        "version": ours.version,
        "digest": ours.digest,
        "with": theirs.version,
        "theirs": theirs.digest,
        "chosen": chosen,
        "strategy": strategy,
        "has_deltas": any(ref.kind == "delta" for one in manifests for ref in one.batches),
    }


def _work(
    asked: Asked, about: dict[str, Any], *, dry_run: bool, message: str, measured: bool
) -> Work:
    pair = [f"{asked.name}@{about[side]}" for side in ("version", "with")]
    chosen, registry, user = about["chosen"], asked.registry, asked.user
    resolutions, choices = (
        {key.removeprefix(prefix): c for key, c in chosen.items() if key.startswith(prefix)}
        for prefix in (OF_CONFLICT, OF_KIND)
    )

    def work(reporter: Reporter) -> "Merged":
        from mlflow_edit.operations import merge as verb

        reporter.stage("looking for conflicts")
        seen = verb.merge(
            *pair, choices=choices, resolutions=resolutions, dry_run=True, author=user,
            strategy=about["strategy"], registry=registry,
        )  # fmt: skip
        if dry_run or seen.state != "dry-run":
            return seen
        if seen.unresolved:
            left = [one for one in seen.conflicts if one.id in seen.unresolved]
            raise MergeConflict(
                f"{len(left)} conflicts are left", conflicts=left, hint="Choose for each."
            )
        return verb.merge(
            *pair, choices=choices, resolutions=resolutions, message=message, author=user,
            strategy=about["strategy"], measured=measured, registry=registry, reporter=reporter,
        )  # fmt: skip

    return work
