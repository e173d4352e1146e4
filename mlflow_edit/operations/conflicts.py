"""The merge of a model that stopped at conflicts: list, look at and resolve them."""

from mlflow_edit.core.conflicts import Choice, Conflict
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.ledger import MergeResolved, resolutions_of
from mlflow_edit.errors import NotFoundError
from mlflow_edit.operations.authorship import checked_author, checked_note
from mlflow_edit.operations.conflict_search import find_conflicts
from mlflow_edit.operations.decision import decided
from mlflow_edit.operations.open_merges import opened_merge, sides_of
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.pairing import Pairing
from mlflow_edit.operations.resolving import Choices
from mlflow_edit.registry.registry import Registry


class OpenConflict(FrozenModel):
    """One conflict of an open merge, what may be chosen, and what was (None: nothing yet)."""

    conflict: Conflict
    choices: tuple[Choice, ...]
    choice: str | None


class OpenConflicts(FrozenModel):
    """The conflicts of an open merge. Those found by measuring show when it is continued."""

    name: str
    ours: int
    theirs: int
    conflicts: tuple[OpenConflict, ...]
    unresolved: int


def list_conflicts(name: str, *, registry: Registry | None = None) -> OpenConflicts:
    """List the conflicts of the merge that is open.

    Raises:
        NotFoundError: no merge is open.
    """
    registry = open_registry(registry)
    number, opened = opened_merge(registry, name)
    pairing = Pairing.read(registry, *sides_of(registry, name, opened))
    chosen = resolutions_of(registry.ledger(name), number)
    found = tuple(
        OpenConflict(conflict=c, choices=c.choices, choice=chosen.get(c.id))
        for c in find_conflicts(registry, pairing.sides)
    )
    return OpenConflicts(
        name=name,
        ours=pairing.ours.version,
        theirs=pairing.theirs.version,
        conflicts=found,
        unresolved=sum(one.conflict.blocking and one.choice is None for one in found),
    )


def show_conflict(name: str, conflict: str, *, registry: Registry | None = None) -> OpenConflict:
    """Show one conflict of the merge that is open.

    Raises:
        NotFoundError: no merge is open, or it has no such conflict, or several begin like that.
    """
    listed = list_conflicts(name, registry=registry).conflicts
    found = [one for one in listed if one.conflict.id.startswith(conflict)]
    if len(found) == 1 and conflict:
        return found[0]
    said = f"{len(found)} conflicts begin with" if found else "the merge has no conflict"
    raise NotFoundError(f"{said} {conflict!r}", hint=f"mledit conflicts list {name}")


def resolve_conflict(
    name: str,
    conflict: str,
    choice: str,
    *,
    author: str | None = None,
    note: str = "",
    registry: Registry | None = None,
) -> OpenConflict:
    """Resolve one conflict of the merge that is open; the last word counts.

    Raises:
        NotFoundError: no merge is open, or it has no such conflict.
        InvalidInputError: the conflict cannot be resolved like that.
    """
    registry = open_registry(registry)
    number, _ = opened_merge(registry, name)
    found = show_conflict(name, conflict, registry=registry)
    named = found.conflict.id
    made = Choices(by_id={named: choice}).of(found.conflict)
    decided(
        registry,
        name,
        lambda entries, facts: MergeResolved(
            kind="merge-resolved", merge=number, conflict=named, choice=made or "accept", **facts
        ),
        author=checked_author(author),
        note=checked_note(note),
    )
    return found.model_copy(update={"choice": choice})
