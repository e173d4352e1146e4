"""Versions as the verbs return them: the fields that other programs rely on."""

from typing import Any

from pydantic import Field

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.manifest import BaseRef, BatchRef, Manifest
from mlflow_edit.core.results import EditResult, ProbeResult
from mlflow_edit.core.scorecard import HEADLINE, Scorecard
from mlflow_edit.errors import MlflowEditError
from mlflow_edit.operations.review import ReviewState
from mlflow_edit.registry.registry import Registry, VersionInfo, heads


class VersionView(FrozenModel):
    """One version, as every verb shows it."""

    name: str
    version: int
    digest: str
    content_digest: str
    parents: tuple[str, ...]
    message: str
    author: str
    created_at: str
    aliases: tuple[str, ...]
    run_id: str
    model_id: str
    n_edits: int
    n_batches: int
    n_contextual: int = 0
    scorecard: dict[str, Any] | None = None


class VersionDetail(VersionView):
    """One version with its base and batches."""

    base: BaseRef
    batches: tuple[BatchRef, ...]
    batch: BatchRef | None = None
    edits: tuple[EditResult, ...] = Field(default=())
    warnings: tuple[str, ...] = ()
    review: ReviewState | None = None


def view(info: VersionInfo) -> VersionView:
    """Show a version as a list does; of its scorecard the headline, null where unmeasured."""
    return VersionView(**_common(info), scorecard={n: info.metrics.get(n) for n in HEADLINE})


def detail(
    info: VersionInfo,
    manifest: Manifest,
    scorecard: Scorecard | None,
    *,
    batch: BatchRef | None = None,
    edits: tuple[EditResult, ...] = (),
    warnings: tuple[str, ...] = (),
    review: ReviewState | None = None,
) -> VersionDetail:
    """Show a version whole."""
    return VersionDetail(
        **{**_common(info), "author": manifest.author, "message": manifest.message},
        scorecard=scorecard.model_dump(mode="json") if scorecard else None,
        base=manifest.base,
        batches=manifest.batches,
        batch=batch,
        edits=edits,
        warnings=warnings,
        review=review,
    )


def other_heads(registry: Registry, made: VersionInfo) -> list[str]:
    """Say whether the history has forked: whether something else is built on nothing but itself."""
    try:
        others = [v for v in heads(registry.versions(made.name)) if v.digest != made.digest]
    except MlflowEditError:  # the version is registered: nothing may fail any more
        return []
    if not others:
        return []
    known = ", ".join(str(v.version) for v in others)
    said = (
        f"another head, version {known}" if len(others) == 1 else f"other heads, versions {known}"
    )
    different = [v for v in others if v.content_digest != made.content_digest]
    if not different:
        return [f"the history has {said}, of the same content"]
    return [
        f"the history has {said}; join them with "
        f"'mledit merge {made.name}@{made.version} {made.name}@{different[-1].version}'"
    ]


def edit_results(results: tuple[ProbeResult, ...]) -> tuple[EditResult, ...]:
    """Return the rows of the edits' own prompts."""
    return tuple(
        EditResult(
            id=row.edit_id or "",
            prompt=row.prompt,
            target=row.expected[0],
            before=row.before,
            after=row.after,
            ok=row.ok,
        )
        for row in results
        if row.metric in ("reliability", "retention")
    )


def _common(info: VersionInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "version": info.version,
        "digest": info.digest,
        "content_digest": info.content_digest,
        "parents": info.parents,
        "message": info.message,
        "author": info.author,
        "created_at": info.created_at,
        "aliases": info.aliases,
        "run_id": info.run_id,
        "model_id": info.model_id,
        "n_edits": info.n_edits,
        "n_batches": info.n_batches,
        "n_contextual": info.n_contextual,
    }
