"""Remove what crashes left behind."""

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.verify import Orphan
from mlflow_edit.registry.names import model_name
from mlflow_edit.registry.registry import Registry

GRACE_PERIOD = 3600.0


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
    """
    registry = open_registry(registry)
    names = [model_name(name)] if name is not None else registry.models()
    orphans, kept = [], []
    for one in names:
        for leftover in registry.leftovers(one):
            orphan = Orphan(
                name=one,
                kind=leftover.kind,
                id=leftover.id,
                status=leftover.status,
                age=round(leftover.age, 1),
            )
            if leftover.age < older_than:
                kept.append(orphan)
                continue
            orphans.append(orphan)
            if not dry_run:
                registry.remove(one, leftover)
    return Collected(dry_run=dry_run, orphans=tuple(orphans), kept=tuple(kept))
