"""What a decision would be, by the very code that takes it; nothing is written down."""

from collections.abc import Callable
from typing import Any, NoReturn, cast

from mlflow_edit.core.ledger import Entry
from mlflow_edit.registry.registry import Registry


class _Taken(Exception):
    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.kind)
        self.entry = entry


class _Rehearsal:
    """A registry in which everything can be read, and recording ends the rehearsal."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def record(self, name: str, decide: Callable[[dict[int, Entry]], Entry]) -> NoReturn:
        raise _Taken(decide(self._registry.ledger(name)))


def rehearsed(act: Callable[[Registry], object], registry: Registry) -> Entry:
    """Return the entry that a verb would record: its decision, before anything is done.

    Args:
        act: calls the verb, one that decides before it does anything else, on what it is given.
        registry: where.

    Raises:
        Whatever the verb raises before it decides.
    """
    try:
        act(cast(Registry, _Rehearsal(registry)))
    except _Taken as taken:
        return taken.entry
    raise TypeError("this verb decides nothing")
