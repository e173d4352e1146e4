"""Remove what crashes left behind."""

from collections.abc import Sequence

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.errors import VersionNotFound
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.registry.names import model_name
from mlflow_edit.registry.registry import Leftover, Registry, VersionInfo

GRACE_PERIOD = 3600.0


class Orphan(FrozenModel):
    """What no version names: of a writer that crashed, or that is still at work."""

    name: str
    kind: str
    id: str
    status: str
    age: float


class Collected(FrozenModel):
    """What no version names: removed, or only listed; `kept` is too young to tell."""

    dry_run: bool
    orphans: tuple[Orphan, ...]
    kept: tuple[Orphan, ...]


def gc(
    name: str | None = None,
    *,
    dry_run: bool = True,
    older_than: float = GRACE_PERIOD,
    registry: Registry | None = None,
) -> Collected:
    """Remove runs, LoggedModels and batches that no version names.

    Args:
        name: the model; None looks at all.
        dry_run: list only.
        older_than: in seconds; what is younger may belong to somebody who is at work.
        registry: where; None takes MLflow's setting.

    Raises:
        RegistryError: the store failed.
        IntegrityError: a manifest cannot be read; nothing was removed.
    """
    registry = open_registry(registry)
    names = [model_name(name)] if name is not None else registry.models()
    found = {one: registry.leftovers(one) for one in names}
    needed = needed_runs(registry, names)  # afterwards: what was taken into use since is needed
    orphans, kept = [], []
    for one, leftovers in found.items():
        for leftover in [left for left in leftovers if left.id not in needed]:
            if leftover.age < older_than:
                kept.append(orphan_of(one, leftover))
                continue
            orphans.append(orphan_of(one, leftover))
            if not dry_run:
                registry.remove(one, leftover)
    return Collected(dry_run=dry_run, orphans=tuple(orphans), kept=tuple(kept))


def needed_runs(registry: Registry, names: Sequence[str] = ()) -> frozenset[str]:
    """Return the runs that hold a batch which a version of any model lists, and of these.

    Raises:
        IntegrityError: a manifest cannot be read: what it lists cannot be known.
    """
    return frozenset(
        ref.run_id
        for name in {*registry.models(), *names}
        for info in _versions(registry, name)
        for ref in registry.manifest(info).batches
    )


def orphan_of(name: str, leftover: Leftover) -> Orphan:
    """Show a leftover."""
    return Orphan(
        name=name,
        kind=leftover.kind,
        id=leftover.id,
        status=leftover.status,
        age=round(leftover.age, 1),
    )


def _versions(registry: Registry, name: str) -> list[VersionInfo]:
    try:
        return registry.versions(name)
    except VersionNotFound:  # a model that was created, and never got a version
        return []
