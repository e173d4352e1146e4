"""Point an alias at the version that held it before."""

from mlflow_edit.core.ledger import Entry, Move, moves_of, standing
from mlflow_edit.errors import (
    NotFoundError,
)
from mlflow_edit.operations.aliases import (
    Promotion,
    carry_out,
    check_holder,
    checked_alias,
    current_holder,
    move_in,
    number_of,
    promotion,
)
from mlflow_edit.operations.authorship import checked_author, checked_note
from mlflow_edit.operations.decision import decided
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.registry.names import model_name
from mlflow_edit.registry.registry import Registry


def rollback(
    name: str,
    alias: str,
    *,
    if_current: str | None = None,
    note: str = "",
    author: str | None = None,
    registry: Registry | None = None,
) -> Promotion:
    """Point an alias at the version that held it before the one that holds it now.

    Called again, it goes back one promotion more. `if_current` is that of `promote`.

    Raises:
        NotFoundError: nothing held the alias before.
        GateError: a server that enforces gates refused the move; it is taken back in the ledger.
    """
    checked_alias(alias)
    author, note = checked_author(author), checked_note(note)
    registry = open_registry(registry)
    name = model_name(name)

    def decide(entries: dict[int, Entry], facts: dict[str, str]) -> Move:
        stack = standing(moves_of(entries, alias))
        holder = current_holder(registry, name, alias, entries)
        check_holder(registry, name, alias, holder, if_current)
        now = holder.digest if holder else None
        if now != (stack[-1] if stack else None):  # somebody moved it past us
            stack.append(now)
        there = {info.digest for info in registry.versions(name)}
        earlier = [digest for digest in stack[:-1] if digest in there and digest != now]
        if not earlier:
            raise NotFoundError(
                f"{alias} of {name} has no earlier version to go back to",
                hint=f"mledit log {name} --promotions shows every move.",
            )
        return Move(kind="rollback", alias=alias, to=earlier[-1], previous=now, **facts)

    number, entry = decided(registry, name, decide, author=author, note=note)
    move = move_in(entry)
    carry_out(registry, name, move, author)
    target = next(info for info in registry.versions(name) if info.digest == move.to)
    return promotion(target, move, number_of(registry, name, move.previous), number)
