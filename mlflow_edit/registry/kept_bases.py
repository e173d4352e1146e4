"""Base models kept in memory between loads, for a process that loads one again and again."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mlflow_edit.errors import EditingError

if TYPE_CHECKING:  # pages must not wait for torch
    from mlflow_edit.models.base_model import BaseModel

Key = tuple[str, str | None, str | None]
"""Digest, device and type of a base model."""


class KeptBases:
    """The base models used last. One is used by one version at a time: edits attach to it.

    With a limit of 0 none is ever loaded.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Key, BaseModel] = OrderedDict()

    def take(self, key: Key, load: "Callable[[], BaseModel]") -> "BaseModel":
        """Return a base model, loading it where it is not kept; the one used least makes room.

        Raises:
            EditingError: no model may be loaded here.
        """
        if self.limit < 1:
            raise EditingError(
                "this needs the base model, and no models are loaded here",
                hint="Do it with mledit on a machine that may load it.",
            )
        if key not in self._kept:
            while len(self._kept) >= self.limit:
                self._kept.popitem(last=False)
            self._kept[key] = load()
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Keep none."""
        self._kept.clear()


_IN_USE: ContextVar[KeptBases | None] = ContextVar("kept bases", default=None)


def kept_bases() -> KeptBases | None:
    """Return what `keeping_bases` named in this thread, None outside of it."""
    return _IN_USE.get()


@contextmanager
def keeping_bases(kept: KeptBases) -> Iterator[None]:
    """Let what is loaded in this thread, for the length of a context, be kept there."""
    token = _IN_USE.set(kept)
    try:
        yield
    finally:
        _IN_USE.reset(token)
