"""What is added to one weight, whatever form it is kept in."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mlflow_edit.core.digest import canonical_json, tensor_digest
from mlflow_edit.errors import CorruptPatch, InvalidInputError, ShapeMismatch
from mlflow_edit.patches.tensor_bytes import FLOATS, tensor_bytes

AddRows = Callable[[Tensor, int], None]  # rows of a sum, and which row is their first


def as_rows(weight: Tensor) -> Tensor:
    """View a weight as `(rows, cols)`."""
    if weight.ndim == 2:
        return weight
    return weight.reshape(weight.shape[0] if weight.ndim else 1, math.prod(weight.shape[1:]))


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which what is added to weights of `dtype` is summed, before one rounding.

    Raises:
        ShapeMismatch: weights of this type cannot be added to.
    """
    if dtype not in FLOATS:
        raise ShapeMismatch(
            f"weights of {dtype} cannot be edited",
            hint="Load the base model in float32, bfloat16 or float16.",
        )
    return torch.float64 if dtype == torch.float32 else torch.float32


@dataclass(frozen=True, eq=False)
class Change(ABC):
    """What is added to the parameter `tensor`, by its (canonical) name in the model.

    Raises:
        CorruptPatch: shapes, dtypes or values that cannot be.
    """

    form: ClassVar[str]

    tensor: str

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the weight; None where any with enough elements will do."""

    @abstractmethod
    def header(self) -> dict[str, Any]:
        """Return everything but the tensors, as canonical-JSON values."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""

    @classmethod
    @abstractmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the change from its parts, checking every one (CorruptPatch)."""

    @abstractmethod
    def added(self, base: Tensor) -> Tensor:
        """Return what is added to `base`: of its shape, in the type of `accumulator`.

        Raises:
            ShapeMismatch: the base has another shape.
        """

    def adder(self, base: Tensor) -> AddRows:
        """Return what adds, to rows of a sum from a row on, those of what `added` returns.

        Raises:
            ShapeMismatch: the base has another shape.
        """
        whole = as_rows(self.added(base))

        def add(rows: Tensor, start: int) -> None:
            rows += whole[start : start + len(rows)]

        return add

    @cached_property
    def digest(self) -> str:
        """Name the change by its content."""
        named = {"form": self.form, **self.header()}
        return tensor_digest(named, {n: tensor_bytes(t) for n, t in self.tensors().items()})

    @property
    def bytes(self) -> int:
        """Count the bytes of its tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Change) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def check_name(self) -> None:
        """Check the name (CorruptPatch)."""
        if not isinstance(self.tensor, str) or not self.tensor:
            raise CorruptPatch("a change does not name its tensor")
        try:
            canonical_json(self.tensor)
        except InvalidInputError as error:
            raise CorruptPatch(f"the name of a tensor is malformed: {error}") from error

    def mismatch(self, base: Tensor) -> ShapeMismatch:
        """Say that a base has another shape."""
        return ShapeMismatch(
            f"{self.tensor} has the shape {tuple(base.shape)}; the change is for {self.shape}",
            hint="Was the patch made for another base model?",
        )


def check_parts(
    header: Mapping[str, Any], fields: set[str], tensors: Mapping[str, Tensor], names: set[str]
) -> None:
    """Check that there are just the parts that there must be (CorruptPatch)."""
    if set(header) != fields:
        raise CorruptPatch(f"a change has the fields {sorted(header)}, not {sorted(fields)}")
    if set(tensors) != names:
        raise CorruptPatch(f"a change has the tensors {sorted(tensors)}, not {sorted(names)}")
