"""One version: who changed what and why, and how it measures against its parents."""

import json
from collections.abc import Sequence

from mlflow_edit.core.contextual import Contextual, contextual_of
from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.gate import other_protocol
from mlflow_edit.core.manifest import BatchRef, Exclusion, Manifest, Merging, Resolution
from mlflow_edit.core.scorecard import Scorecard, changes
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.review import review_state
from mlflow_edit.operations.version_view import VersionDetail, detail
from mlflow_edit.registry.names import RESULTS, parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo, choose


class ParentView(FrozenModel):
    """A parent, and how each metric changed from it that was measured by the same protocol.

    `protocol` names what of the protocol was not the same.
    """

    version: int | None
    digest: str
    changes: dict[str, float]
    protocol: tuple[str, ...] = ()


class ShownEdit(FrozenModel):
    """An edit of the version, and the batch that brought it."""

    id: str
    batch: str
    kind: str
    prompt: str
    target: str
    before: str | None = None
    after: str | None = None
    ok: bool | None = None
    author: str | None = None
    note: str | None = None


class Shown(FrozenModel):
    """A version whole.

    `weights` is the digest of the weights that its deltas give, `contextual` the deltas that act on
    other weights than they were learned on; `merging` how a merge made one delta of both sides'.
    """

    version: VersionDetail
    parent_changes: tuple[ParentView, ...]
    added: tuple[BatchRef, ...]
    removed: tuple[BatchRef, ...]
    edits: tuple[ShownEdit, ...]
    exclusions: tuple[Exclusion, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    weights: str | None = None
    contextual: tuple[Contextual, ...] = ()
    merging: Merging | None = None


def show(ref: str, *, registry: Registry | None = None) -> Shown:
    """Show one version. Manifests and edits are read; no weights are loaded.

    Raises:
        VersionNotFound: there is no such version.
        IntegrityError: what is stored was changed or damaged.
    """
    registry = open_registry(registry)
    wanted = parse_ref(ref)
    versions = registry.versions(wanted.name)
    return show_version(choose(wanted, versions), versions, registry)


def show_version(info: VersionInfo, versions: Sequence[VersionInfo], registry: Registry) -> Shown:
    """Show one of the versions of a model (see `show`)."""
    manifest = registry.manifest(info)
    parents = [v for digest in manifest.parents for v in versions if v.digest == digest]
    before = {batch.digest: batch for p in parents for batch in registry.manifest(p).batches}
    now = {batch.digest: batch for batch in manifest.batches}
    answers = answers_of(registry, info)
    card = registry.scorecard(info, manifest)
    return Shown(
        version=detail(info, manifest, card, review=review_state(registry, info, manifest)),
        parent_changes=tuple(_parent(registry, card, parent) for parent in parents),
        added=tuple(batch for digest, batch in now.items() if digest not in before),
        removed=tuple(batch for digest, batch in before.items() if digest not in now),
        edits=tuple(
            _shown(batch, edit, answers) for batch, edit in edits_in_force(registry, manifest)
        ),
        exclusions=manifest.exclusions,
        resolutions=manifest.resolutions,
        weights=manifest.weights,
        contextual=contextual_of(manifest),
        merging=manifest.merging,
    )


def edits_in_force(registry: Registry, manifest: Manifest) -> list[tuple[str, Edit]]:
    """Return (batch, edit) for every edit that the version answers by."""
    return [
        (ref.digest, edit)
        for ref in manifest.batches
        for edit in registry.edits(ref)
        if edit.id not in manifest.excluded(ref.digest)
    ]


Answered = tuple[str | None, str | None, bool | None]


def answers_of(registry: Registry, info: VersionInfo) -> dict[str, Answered]:
    """Return (before, after, ok) of each edit's own prompt, as measured for this version.

    Keyed by prompt, which is unique among the edits in force, as ids need not be.
    """
    table = registry.document(info, RESULTS)
    try:
        rows = json.loads(table)["data"] if table else []
        return {
            str(row[2]): (str(row[4]), str(row[5]), bool(row[6]))
            for row in rows
            if row[0] in ("reliability", "retention")
        }
    except (ValueError, KeyError, IndexError, TypeError):  # a table is for reading, not for law
        return {}


def _shown(batch: str, edit: Edit, answers: dict[str, Answered]) -> ShownEdit:
    before, after, ok = answers.get(edit.prompt, (None, None, None))
    return ShownEdit(
        id=edit.id,
        batch=batch,
        kind=edit.kind,
        prompt=edit.prompt,
        target=edit.target,
        before=before,
        after=after,
        ok=ok,
        author=edit.author,
        note=edit.note,
    )


def _parent(registry: Registry, card: Scorecard, parent: VersionInfo) -> ParentView:
    before = registry.scorecard(parent, registry.manifest(parent))
    return ParentView(
        version=parent.version,
        digest=parent.digest,
        changes={
            metric: change
            for metric, change in changes(before.metrics(), card.metrics()).items()
            if not other_protocol(before, card, metric)
        },
        protocol=tuple(other_protocol(before, card)) if before.protocol and card.protocol else (),
    )
