"""Tensors as digests see them: a dtype by name, a shape, little-endian bytes."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from mlflow_edit.core.digest import TensorBytes

DTYPES: Mapping[torch.dtype, str] = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
"""The types in which weights, and what is added to them, are kept."""


def tensor_bytes(tensor: Tensor) -> TensorBytes:
    """Return the content of a tensor of one of `DTYPES`."""
    return TensorBytes(DTYPES[tensor.dtype], tuple(tensor.shape), _data(tensor))


def bits_digest(tensor: Tensor) -> str:
    """Return the sha-256 of a tensor's bytes alone, in hexadecimal."""
    return hashlib.sha256(_data(tensor)).hexdigest()


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors on the CPU are of one dtype and shape, and equal bit by bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    flat = (tensor.contiguous().flatten().view(torch.uint8) for tensor in (a, b))
    return torch.equal(*flat)


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all elements are finite, in one pass."""
    return not tensor.numel() or bool(torch.stack(tensor.aminmax()).isfinite().all())


def _data(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().flatten()  # a number has no dimension to view
    return flat.view(torch.uint8).numpy().data if len(flat) else memoryview(b"")
