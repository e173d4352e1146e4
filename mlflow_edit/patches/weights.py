"""The weights of a version: the base's, with the deltas of its batches added in canonical order."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mlflow_edit.core.digest import TensorBytes, tensor_digest
from mlflow_edit.errors import CorruptPatch
from mlflow_edit.patches.change import as_rows
from mlflow_edit.patches.changes import Change, Dense, accumulator
from mlflow_edit.patches.exact_product import block_rows
from mlflow_edit.patches.substitution import (
    Substitution,
    canonical_name,
    effective,
    parameter,
    substituted,
)
from mlflow_edit.patches.tensor_bytes import is_finite, tensor_bytes

if TYPE_CHECKING:
    from mlflow_edit.patches.delta import Delta

__all__ = ["Weights", "canonical_name", "effective", "substituted"]

WEIGHTS_FORMAT = "mledit.weights/1"


class Materialised(NamedTuple):
    """The touched weights of a version by name, and their digest where it is known."""

    tensors: dict[str, Tensor]
    digest: str | None


class Weights:
    """Deltas in force together: a set, kept in the order of their batches' digests.

    The weight of a version is $W = \\mathrm{round}(W_0 + \\sum_b \\Delta_b)$: summed from the base
    in that order, in float64 (float32 where the base is of 16 bits), and rounded once. So a version
    without a batch is, to the bit, one that never had it (`W += d; W -= d` would not be).

    Args:
        parts: digests of batches, and their deltas.
    """

    def __init__(self, parts: "Sequence[tuple[str, Delta]]") -> None:
        self.parts = tuple(sorted(parts, key=lambda part: part[0]))

    @property
    def batches(self) -> tuple[str, ...]:
        """The digests of the batches, sorted."""
        return tuple(batch for batch, _ in self.parts)

    @cached_property
    def touched(self) -> tuple[str, ...]:
        """The names of the parameters that any delta changes, sorted."""
        return tuple(sorted(self._changes))

    @cached_property
    def _changes(self) -> dict[str, list[Change]]:
        found: dict[str, list[Change]] = defaultdict(list)
        for _, delta in self.parts:
            for change in delta.changes:
                found[change.tensor].append(change)
        return dict(found)

    @torch.no_grad()
    def materialise(self, name: str, base: Tensor) -> Tensor:
        """Return the weight `name` of the version, of the base's shape, dtype and device.

        A dense change that is alone on its tensor gives back the edited weight bit for bit.

        Raises:
            ShapeMismatch: a change is for a weight of another shape.
            BaseMismatchError: a dense change was made from other bits.
            CorruptPatch: the sum is not finite in the base's type.
        """
        base = base.detach()
        changes = self._changes.get(name, [])
        if not changes:
            return base.clone()
        if len(changes) == 1 and isinstance(changes[0], Dense):
            return changes[0].edited(base).to(base.dtype)
        adders = [change.adder(base) for change in changes]
        weight = torch.empty_like(base, memory_format=torch.contiguous_format)
        rows, done = as_rows(base), as_rows(weight)
        n_rows = block_rows(rows)
        for start in range(0, len(rows), n_rows):  # the sum of a block stays in a core's cache
            total = rows[start : start + n_rows].to(accumulator(base.dtype), copy=True)
            for add in adders:
                add(total, start)
            done[start : start + n_rows] = total
        if not is_finite(weight):
            raise CorruptPatch(f"with its deltas {name} holds NaN or infinity")
        return weight

    def materialised(self, model: nn.Module) -> Materialised:
        """Return all touched weights, by name (see `materialise`), and their digest.

        The digest is None where the base is not of float32: `digest` composes them in that again.
        """
        owned = {name: parameter(model, name) for name in self.touched}
        digest = None
        with ThreadPoolExecutor(2) as composing:  # each is hashed while the next are composed
            parts = {n: composing.submit(self.materialise, n, own) for n, own in owned.items()}
            if all(own.dtype == torch.float32 for own in owned.values()):
                digest = self.digest_of(lambda name: parts[name].result())
        return Materialised({name: part.result() for name, part in parts.items()}, digest)

    def digest(self, model: nn.Module) -> str:
        """Name the weights by their content in float32, whatever type the base is loaded in.

        Raises:
            ShapeMismatch, BaseMismatchError, CorruptPatch: as `materialise`.
        """
        return self.digest_of(lambda name: self.materialise(name, parameter(model, name).float()))

    def digest_of(self, weight: Callable[[str], Tensor]) -> str:
        """Name weights as `digest` does; each is asked for by its name, and only one is held."""
        return tensor_digest({"format": WEIGHTS_FORMAT}, _OnDemand(self.touched, weight))

    @contextmanager
    def attach(self, model: nn.Module) -> Iterator[Substitution]:
        """Let `model` compute with these weights for the length of a context.

        Raises:
            ShapeMismatch, BaseMismatchError, CorruptPatch: as `materialise`.
            UnsupportedModel: as `substituted`.
        """
        with substituted(model, self.materialised(model).tensors) as substitution:
            yield substitution


class _OnDemand(Mapping[str, TensorBytes]):
    """Tensors by name, each made when it is read."""

    def __init__(self, names: Sequence[str], weight: Callable[[str], Tensor]) -> None:
        self._names, self._weight = names, weight

    def __getitem__(self, name: str) -> TensorBytes:
        return tensor_bytes(self._weight(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
