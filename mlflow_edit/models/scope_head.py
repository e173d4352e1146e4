"""The scope head: a low-rank delta of a sentence encoder's blocks, and a linear read-out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mlflow_edit.core.digest import TensorBytes, canonical_json, tensor_digest
from mlflow_edit.errors import CorruptPatch, DigestMismatch

HEAD_FORMAT = "mledit.scope-head/1"


@dataclass(frozen=True, eq=False)
class ScopeHead:
    r"""Factors by which the weights of blocks change, $W' = W + B A$ (Hu et al. 2022, LoRA).

    Args:
        encoder: `base_digest` of the sentence encoder that it was trained for.
        factors: for each linear module of the blocks its `A (rank, d_in)` and `B (d_out, rank)`.
        weight: `(2 d + 6,)` of the read-out, over the first token's state, the mean of all and
            the features of `core.subjects`.
        bias: `()` of the read-out.
    """

    encoder: str
    factors: Mapping[str, tuple[Tensor, Tensor]]
    weight: Tensor
    bias: Tensor

    @property
    def digest(self) -> str:
        """Name the head by its content."""
        return tensor_digest(self._header(), {n: _bytes_of(t) for n, t in self._tensors().items()})

    def merge_into(self, blocks: nn.Module) -> None:
        """Add the deltas to the weights of `blocks`, in place.

        Raises:
            CorruptPatch: a factor does not fit.
        """
        modules = dict(blocks.named_modules())
        with torch.no_grad():
            for name, (a, b) in self.factors.items():
                module: Any = modules.get(name)
                weight = getattr(module, "weight", None)
                if weight is None or weight.shape != (b.shape[0], a.shape[1]):
                    raise CorruptPatch(f"the scope head's factors for {name!r} do not fit")
                weight.add_(b.float() @ a.float())

    def to_bytes(self) -> bytes:
        """Write the head, factors in float16."""
        metadata = {**self._header(), "digest": self.digest}
        tensors = {name: tensor.contiguous() for name, tensor in self._tensors().items()}
        return save_tensors(tensors, metadata={"mledit": canonical_json(metadata).decode()})

    def _header(self) -> dict[str, str]:
        return {"format": HEAD_FORMAT, "encoder": self.encoder}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"read_out.weight": self.weight.half(), "read_out.bias": self.bias.half()}
        for name, (a, b) in self.factors.items():
            tensors |= {f"{name}.a": a.half(), f"{name}.b": b.half()}
        return tensors


def read_scope_head(data: bytes) -> ScopeHead:
    """Read and verify a scope head.

    Raises:
        CorruptPatch: truncated or malformed.
        DigestMismatch: its content has not the digest that it names.
    """
    try:
        tensors = load_tensors(data)
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["mledit"])
        names = sorted({n[:-2] for n in tensors if n.endswith((".a", ".b"))})
        head = ScopeHead(
            metadata["encoder"],
            {n: (tensors[f"{n}.a"].float(), tensors[f"{n}.b"].float()) for n in names},
            tensors["read_out.weight"].float(),
            tensors["read_out.bias"].float(),
        )
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptPatch(f"the scope head is damaged: {error}") from error
    if metadata.get("digest") != head.digest or metadata.get("format") != HEAD_FORMAT:
        raise DigestMismatch("the scope head has not the digest that it names")
    return head


def _bytes_of(tensor: Tensor) -> TensorBytes:
    return TensorBytes("F16", tuple(tensor.shape), tensor.contiguous().numpy().tobytes())
