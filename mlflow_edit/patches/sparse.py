"""Sparse changes: values at a few elements of a weight."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mlflow_edit.errors import CorruptPatch, ShapeMismatch
from mlflow_edit.patches.change import Change, accumulator, check_parts
from mlflow_edit.patches.tensor_bytes import FLOATS


@dataclass(frozen=True, eq=False)
class Sparse(Change):
    """Values added to a few elements.

    Args:
        tensor: the name of the parameter.
        indices: `(n,)` int64, places in the flattened weight, ascending.
        values: `(n,)` float.
    """

    form: ClassVar[str] = "sparse"

    indices: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        self.check_name()
        if self.indices.ndim != 1 or self.indices.shape != self.values.shape:
            raise CorruptPatch("indices and values must be vectors of one length")
        if self.indices.dtype != torch.int64 or self.values.dtype not in FLOATS:
            raise CorruptPatch(f"indices of {self.indices.dtype}, values of {self.values.dtype}")
        if not torch.isfinite(self.values).all():
            raise CorruptPatch("values hold NaN or infinity")
        if (self.indices < 0).any() or (self.indices[1:] <= self.indices[:-1]).any():
            raise CorruptPatch("indices must be ascending, each once, from 0")

    @property
    def shape(self) -> None:
        """Any shape with enough elements."""
        return None

    def header(self) -> dict[str, Any]:
        """Return the name."""
        return {"tensor": self.tensor}

    def tensors(self) -> dict[str, Tensor]:
        """Return indices and values."""
        return {"indices": self.indices, "values": self.values}

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the change from its parts (CorruptPatch)."""
        check_parts(header, {"tensor"}, tensors, {"indices", "values"})
        return cls(header["tensor"], tensors["indices"], tensors["values"])

    def added(self, base: Tensor) -> Tensor:
        """Return the values in their places, and zero elsewhere."""
        if len(self.indices) and int(self.indices[-1]) >= base.numel():
            raise ShapeMismatch(
                f"{self.tensor} has {base.numel()} elements; the change is of element "
                f"{int(self.indices[-1])}",
                hint="Was the patch made for another base model?",
            )
        flat = torch.zeros(base.numel(), dtype=accumulator(base.dtype), device=base.device)
        flat[self.indices.to(base.device)] = self.values.to(flat)
        return flat.reshape(base.shape)
