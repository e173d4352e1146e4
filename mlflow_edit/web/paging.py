"""A long list, a page of it at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlflow_edit.web.asked import Asked

T = TypeVar("T")
FROM = "from"  # the parameter of the address that says where the page begins


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """Some items of a list of `n_all`, from the one at `first` on; pages hold `size` of them."""

    items: Sequence[T]
    first: int
    n_all: int
    size: int

    @property
    def last(self) -> int:
        """Where the page ends."""
        return self.first + len(self.items)


def part_of(items: Sequence[T], asked: Asked, size: int) -> Part[T]:
    """Take the page of a list that the address asks for; what it cannot mean is the first page."""
    text = asked.parameter(FROM, "0")
    first = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
    first = first if first < len(items) else 0
    return Part(items[first : first + size], first, len(items), size)
