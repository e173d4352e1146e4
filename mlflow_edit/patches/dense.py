"""Dense changes: all bits of an edited weight, lossless, against the base's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mlflow_edit.errors import BaseMismatchError, CorruptPatch, InvalidInputError, ShapeMismatch
from mlflow_edit.patches.change import Change, accumulator, check_parts
from mlflow_edit.patches.lossless import check_packed, decoded, encoded
from mlflow_edit.patches.tensor_bytes import DTYPES, FLOATS, bits_digest, is_finite

MAX_ELEMENTS = 2**40
_BY_NAME = {DTYPES[dtype]: dtype for dtype in FLOATS}


@dataclass(frozen=True, eq=False)
class Dense(Change):
    """All of a weight, lossless: what turns the bits of the base's weight into the edited one's.

    Args:
        tensor: the name of the parameter.
        packed: `(n_bytes,)` uint8, as `patches.lossless` writes it.
        of_shape: the shape of the weight.
        dtype: the type whose bits are meant.
        reference: sha-256 of the bits of the base's weight in that type.
    """

    form: ClassVar[str] = "dense"

    packed: Tensor
    of_shape: tuple[int, ...]
    dtype: torch.dtype
    reference: str

    def __post_init__(self) -> None:
        self.check_name()
        if self.dtype not in FLOATS:
            raise CorruptPatch(f"a dense change of {self.dtype}")
        whole = all(type(n) is int and n >= 0 for n in self.of_shape)
        if not whole or len(self.of_shape) > 8 or math.prod(self.of_shape) > MAX_ELEMENTS:
            raise CorruptPatch(f"a dense change of the shape {self.of_shape}")
        if self.packed.ndim != 1 or self.packed.dtype != torch.uint8:
            raise CorruptPatch("what is packed must be a vector of bytes")
        check_packed(self.packed, math.prod(self.of_shape) * self.dtype.itemsize)

    @classmethod
    def of(cls, tensor: str, base: Tensor, edited: Tensor) -> Self:
        """Make the change that gives `edited` where it is added to `base`, of its dtype and shape.

        Raises:
            ShapeMismatch: they differ in shape or dtype.
            InvalidInputError: `edited` holds NaN or infinity.
        """
        if base.shape != edited.shape or base.dtype != edited.dtype:
            came = f"{edited.dtype} {tuple(edited.shape)}"
            raise ShapeMismatch(f"{tensor} is {base.dtype} {tuple(base.shape)}; came {came}")
        if not is_finite(edited):
            raise InvalidInputError(f"the edited {tensor} holds NaN or infinity")
        packed = encoded(edited, base)
        return cls(tensor, packed, tuple(base.shape), base.dtype, bits_digest(base))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""
        return self.of_shape

    def header(self) -> dict[str, Any]:
        """Return name, shape, dtype and the digest of the reference."""
        return {
            "tensor": self.tensor,
            "shape": list(self.of_shape),
            "dtype": DTYPES[self.dtype],
            "reference": self.reference,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the packed bytes."""
        return {"packed": self.packed}

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the change from its parts (CorruptPatch)."""
        check_parts(header, {"tensor", "shape", "dtype", "reference"}, tensors, {"packed"})
        dtype, shape = header["dtype"], header["shape"]
        if not isinstance(dtype, str) or dtype not in _BY_NAME or not isinstance(shape, list):
            raise CorruptPatch(f"a dense change of {dtype!r}, shape {shape!r}")
        if not isinstance(header["reference"], str):
            raise CorruptPatch("a dense change does not name its reference")
        packed, known = tensors["packed"], _BY_NAME[dtype]
        return cls(header["tensor"], packed, tuple(shape), known, header["reference"])

    def edited(self, base: Tensor) -> Tensor:
        """Return the edited weight, bit for bit, in the change's own dtype.

        Raises:
            ShapeMismatch: the base has another shape.
            BaseMismatchError: its bits are not those that the change was made from.
            CorruptPatch: what is packed cannot be unpacked, or holds NaN or infinity.
        """
        if tuple(base.shape) != self.shape:
            raise self.mismatch(base)
        reference = base.detach().to(self.dtype)
        if bits_digest(reference) != self.reference:
            raise BaseMismatchError(
                f"{self.tensor} ({base.dtype}) is not the weight that the change was made from",
                hint=f"Load the base model in {str(self.dtype).removeprefix('torch.')}: a dense "
                "change needs every bit of it.",
            )
        edited = decoded(self.packed, reference).to(base.device)
        if not is_finite(edited):
            raise CorruptPatch(f"the edited {self.tensor} holds NaN or infinity")
        return edited

    def added(self, base: Tensor) -> Tensor:
        """Return the difference of the edited weight and the base's."""
        kind = accumulator(base.dtype)
        return self.edited(base).to(kind) - base.detach().to(kind)
