"""The scope head: a low-rank delta of a sentence encoder's blocks, and a linear read-out.

It is kept in a patch file of a form of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlflow_edit.errors import CorruptPatch
from mlflow_edit.patches.format import Packed, pack, unpack

FORM = "scope-head"
READ_OUT = ("read_out.weight", "read_out.bias")


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

    def packed(self) -> Packed:
        """Return the head as it is written, in float16."""
        tensors = dict(zip(READ_OUT, (self.weight.half(), self.bias.half()), strict=True))
        for name, (a, b) in self.factors.items():
            tensors |= {f"{name}.a": a.half(), f"{name}.b": b.half()}
        return Packed(FORM, {"encoder": self.encoder}, tensors)

    def to_bytes(self) -> bytes:
        """Write the head."""
        return pack(self.packed())


def read_scope_head(data: bytes) -> ScopeHead:
    """Read and verify a scope head.

    Raises:
        CorruptPatch: truncated or malformed.
        DigestMismatch: its content has not the digest that it names.
    """
    packed = unpack(data, forms=[FORM])
    tensors = {name: tensor.float() for name, tensor in packed.tensors.items()}
    names = sorted({name[:-2] for name in tensors if name not in READ_OUT})
    try:
        factors = {name: (tensors[f"{name}.a"], tensors[f"{name}.b"]) for name in names}
        return ScopeHead(packed.header["encoder"], factors, *(tensors[name] for name in READ_OUT))
    except KeyError as error:
        raise CorruptPatch(f"the scope head lacks {error}") from error
