"""Changes of low rank: products of an editor's own factors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mlflow_edit.errors import CorruptPatch
from mlflow_edit.patches.change import AddRows, Change, accumulator, check_parts
from mlflow_edit.patches.exact_product import ExactProduct, add_product
from mlflow_edit.patches.tensor_bytes import FLOATS


@dataclass(frozen=True, eq=False)
class LowRank(Change):
    """`scale * left @ right`, in the orientation in which the parameter is stored.

    Args:
        tensor: the name of the parameter.
        left: `(rows, rank)`.
        right: `(rank, cols)`, of the same float type.
        scale: a factor, such as LoRA's alpha / rank.
    """

    form: ClassVar[str] = "low-rank"

    left: Tensor
    right: Tensor
    scale: float = 1.0

    def __post_init__(self) -> None:
        self.check_name()
        left, right = self.left, self.right
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
            shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
            raise CorruptPatch(f"factors of {shapes} have no product")
        if left.dtype not in FLOATS or left.dtype != right.dtype:
            raise CorruptPatch(f"factors of {left.dtype} and {right.dtype}")
        if type(self.scale) is not float or not math.isfinite(self.scale):
            raise CorruptPatch(f"a scale of {self.scale!r}")
        if not torch.isfinite(left).all() or not torch.isfinite(right).all():
            raise CorruptPatch("factors hold NaN or infinity")

    @property
    def rank(self) -> int:
        """The number of columns of `left`."""
        return self.left.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        return self.left.shape[0], self.right.shape[1]

    def header(self) -> dict[str, Any]:
        """Return name and scale."""
        return {"tensor": self.tensor, "scale": self.scale}

    def tensors(self) -> dict[str, Tensor]:
        """Return the factors."""
        return {"left": self.left, "right": self.right}

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the change from its parts (CorruptPatch)."""
        check_parts(header, {"tensor", "scale"}, tensors, {"left", "right"})
        return cls(header["tensor"], tensors["left"], tensors["right"], header["scale"])

    def added(self, base: Tensor) -> Tensor:
        """Return the product, the same bits on every machine (see `ExactProduct`)."""
        total = torch.zeros(base.shape, dtype=accumulator(base.dtype), device=base.device)
        add_product(total, *self._factors(base), self.scale)
        return total

    def adder(self, base: Tensor) -> AddRows:
        """Return what adds rows of the product: it is never held whole."""
        return ExactProduct(*self._factors(base), self.scale).add_to

    def _factors(self, base: Tensor) -> tuple[Tensor, Tensor]:
        if tuple(base.shape) != self.shape:
            raise self.mismatch(base)
        return self.left.to(base.device), self.right.to(base.device)
