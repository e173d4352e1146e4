"""One version: who changed what and why, and how it measures against its parents."""

from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.manifest import BatchRef, Manifest
from mlflow_edit.core.scorecard import changes
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.version_view import VersionDetail, detail
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo


class ParentView(FrozenModel):
    """A parent, and how each metric changed from it."""

    version: int | None
    digest: str
    changes: dict[str, float]


class ShownEdit(FrozenModel):
    """An edit of the version, and the batch that brought it."""

    id: str
    batch: str
    kind: str
    prompt: str
    target: str
    author: str | None = None
    note: str | None = None


class Shown(FrozenModel):
    """A version whole."""

    version: VersionDetail
    parents: tuple[ParentView, ...]
    added: tuple[BatchRef, ...]
    removed: tuple[BatchRef, ...]
    edits: tuple[ShownEdit, ...]


def show(ref: str, *, registry: Registry | None = None) -> Shown:
    """Show one version. Manifests and edits are read; no weights are loaded.

    Raises:
        VersionNotFound: there is no such version.
        IntegrityError: what is stored was changed or damaged.
    """
    registry = open_registry(registry)
    wanted = parse_ref(ref)
    versions = registry.versions(wanted.name)
    info = registry.resolve(wanted)
    manifest = registry.manifest(info)
    parents = [v for digest in manifest.parents for v in versions if v.digest == digest]
    before = {
        batch.digest: batch for p in parents for batch in registry.manifest(p).batches
    }
    now = {batch.digest: batch for batch in manifest.batches}
    return Shown(
        version=detail(info, manifest, registry.scorecard(info, manifest)),
        parents=tuple(_parent(info, parent) for parent in parents),
        added=tuple(batch for digest, batch in now.items() if digest not in before),
        removed=tuple(batch for digest, batch in before.items() if digest not in now),
        edits=tuple(
            ShownEdit(
                id=edit.id,
                batch=batch,
                kind=edit.kind,
                prompt=edit.prompt,
                target=edit.target,
                author=edit.author,
                note=edit.note,
            )
            for batch, edit in edits_in_force(registry, manifest)
        ),
    )


def edits_in_force(registry: Registry, manifest: Manifest) -> list[tuple[str, Edit]]:
    """Return (batch, edit) for every edit that the version answers by."""
    return [
        (ref.digest, edit)
        for ref in manifest.batches
        for edit in registry.batch(ref).edits
        if edit.id not in manifest.excluded(ref.digest)
    ]


def _parent(info: VersionInfo, parent: VersionInfo) -> ParentView:
    return ParentView(
        version=parent.version, digest=parent.digest, changes=changes(parent.metrics, info.metrics)
    )
