"""What is added to one weight: a product of factors, a few elements, or all of them, lossless."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mlflow_edit.core.digest import canonical_json, tensor_digest
from mlflow_edit.errors import BaseMismatchError, CorruptPatch, InvalidInputError, ShapeMismatch
from mlflow_edit.patches.exact_product import exact_product
from mlflow_edit.patches.lossless import check_packed, decoded, encoded
from mlflow_edit.patches.tensor_bytes import DTYPES, FLOATS, bits_digest, tensor_bytes

MAX_ELEMENTS = 2**40
_BY_NAME = {DTYPES[dtype]: dtype for dtype in FLOATS}


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

    def _check_name(self) -> None:
        if not isinstance(self.tensor, str) or not self.tensor:
            raise CorruptPatch("a change does not name its tensor")
        try:
            canonical_json(self.tensor)
        except InvalidInputError as error:
            raise CorruptPatch(f"the name of a tensor is malformed: {error}") from error

    def _mismatch(self, base: Tensor) -> ShapeMismatch:
        return ShapeMismatch(
            f"{self.tensor} has the shape {tuple(base.shape)}; the change is for {self.shape}",
            hint="Was the patch made for another base model?",
        )


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
        self._check_name()
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
        _check_parts(header, {"tensor", "scale"}, tensors, {"left", "right"})
        scale = header["scale"]
        if type(scale) is int:  # canonical JSON may write 1.0 as it likes
            raise CorruptPatch(f"a scale of {scale!r}")
        return cls(header["tensor"], tensors["left"], tensors["right"], scale)

    def added(self, base: Tensor) -> Tensor:
        """Return the product, the same bits on every machine (see `exact_product`)."""
        if tuple(base.shape) != self.shape:
            raise self._mismatch(base)
        left, right = self.left.to(base.device), self.right.to(base.device)
        return (exact_product(left, right) * self.scale).to(accumulator(base.dtype))


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
        self._check_name()
        if self.indices.ndim != 1 or self.indices.shape != self.values.shape:
            raise CorruptPatch("indices and values must be vectors of one length")
        if self.indices.dtype != torch.int64 or self.values.dtype not in FLOATS:
            raise CorruptPatch(f"indices of {self.indices.dtype}, values of {self.values.dtype}")
        if not torch.isfinite(self.values).all():
            raise CorruptPatch("values hold NaN or infinity")
        if (self.indices[:1] < 0).any() or (self.indices.diff() <= 0).any():
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
        _check_parts(header, {"tensor"}, tensors, {"indices", "values"})
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
        self._check_name()
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
        if not torch.isfinite(edited).all():
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
        _check_parts(header, {"tensor", "shape", "dtype", "reference"}, tensors, {"packed"})
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
            raise self._mismatch(base)
        reference = base.detach().to(self.dtype)
        if bits_digest(reference) != self.reference:
            raise BaseMismatchError(
                f"{self.tensor} ({base.dtype}) is not the weight that the change was made from",
                hint=f"Load the base model in {str(self.dtype).removeprefix('torch.')}: a dense "
                "change needs every bit of it.",
            )
        edited = decoded(self.packed, reference).to(base.device)
        if not torch.isfinite(edited).all():
            raise CorruptPatch(f"the edited {self.tensor} holds NaN or infinity")
        return edited

    def added(self, base: Tensor) -> Tensor:
        """Return the difference of the edited weight and the base's."""
        kind = accumulator(base.dtype)
        return self.edited(base).to(kind) - base.detach().to(kind)


CHANGES: Mapping[str, type[Change]] = {kind.form: kind for kind in (LowRank, Sparse, Dense)}


def _check_parts(
    header: Mapping[str, Any], fields: set[str], tensors: Mapping[str, Tensor], names: set[str]
) -> None:
    if set(header) != fields:
        raise CorruptPatch(f"a change has the fields {sorted(header)}, not {sorted(fields)}")
    if set(tensors) != names:
        raise CorruptPatch(f"a change has the tensors {sorted(tensors)}, not {sorted(names)}")
