"""What every merging strategy is given, and what it gives back."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mlflow_edit.errors import InvalidParams
from mlflow_edit.patches.changes import Change, Dense, Sparse


@dataclass(frozen=True, slots=True)
class Settings:
    """How to merge; what a strategy has no use for it leaves alone.

    Args:
        density: the share of elements that each side keeps, in (0, 1].
        weight: what both sides are multiplied by.
        seed: of what is drawn at random.

    Raises:
        InvalidParams: out of range.
    """

    density: float = 0.5
    weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise InvalidParams(f"a density of {self.density}", hint="Above 0, at most 1.")
        if not 0 < self.weight <= 100:
            raise InvalidParams(f"a weight of {self.weight}", hint="Above 0, at most 100.")
        if not 0 <= self.seed < 2**31:
            raise InvalidParams(f"a seed of {self.seed}", hint="From 0, below 2**31.")


@dataclass(frozen=True)
class Update:
    """What one side adds to one weight.

    Args:
        side: the name of the side, from the digests of its batches.
        base: the base's weight.
        changes: of that weight, in canonical order; none where the side leaves it alone.
        inputs: the dimension of the weight that inputs are multiplied with; None of a vector.
    """

    side: str
    base: Tensor
    changes: tuple[Change, ...]
    inputs: int | None = None

    @cached_property
    def total(self) -> Tensor:
        """The sum of the changes, float64, of the base's shape."""
        found = torch.zeros(self.base.shape, dtype=torch.float64)
        for change in self.changes:
            found += change.added(self.base).double()
        return found

    def generator(self, tensor: str, seed: int) -> torch.Generator:
        """Return a source of random numbers of this side, weight and seed, of no other."""
        text = f"{seed}/{self.side}/{tensor}".encode()
        number = int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1
        return torch.Generator().manual_seed(number)


def as_they_are(tensor: str, base: Tensor, changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return changes in their own forms; as one whole update where two of them are equal."""
    if len(set(changes)) == len(changes):
        return tuple(changes)
    total = torch.zeros(base.shape, dtype=torch.float64)
    for change in changes:
        total += change.added(base).double()
    return as_changes(tensor, base, total)


Strategy = Callable[[str, Update, Update, Settings], tuple[Change, ...]]
"""Merge what two sides add to the weight of a name. Strategies obey:

* equal inputs give equal changes, and exchanging the sides gives the same weights but for
  rounding (callers put sides in canonical order, so that it gives the same bits);
* a side that adds nothing to a weight counts as one that adds zero.
"""


def as_changes(tensor: str, base: Tensor, update: Tensor) -> tuple[Change, ...]:
    """Write a whole update in the smaller of two forms: its elements, or the weight that it gives.

    Args:
        tensor: the name of the weight.
        base: the weight.
        update: what is added, float64, of its shape.
    """
    flat = update.flatten()
    indices = flat.nonzero()[:, 0]
    if not len(indices):
        return ()
    if 3 * len(indices) < len(flat):  # an index of 8 bytes and a value of 4, against 4 bytes each
        return (Sparse(tensor, indices, flat[indices].float()),)
    edited = (base.double() + update).to(base.dtype)
    return (Dense.of(tensor, base, edited),)


def kept(update: Tensor, density: float) -> Tensor:
    """Return the update with its largest elements only: of equal ones the first."""
    count = max(1, round(density * update.numel()))
    order = update.flatten().abs().argsort(descending=True, stable=True)
    mask = torch.zeros(update.numel(), dtype=torch.bool)
    mask[order[:count]] = True
    return torch.where(mask.reshape(update.shape), update, torch.zeros_like(update))
