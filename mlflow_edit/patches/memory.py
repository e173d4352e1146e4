r"""Memories: remembered edits that are read together, and a scope test that is wide.

A codebook answers by one entry, in a ball that entries which disagree part between them. A memory
holds the same entries and parts nothing: every remembered edit within reach has a say. Two ways of
reading it are the baselines of Hartvigsen et al. 2023 (arXiv:2211.11031, Table 1), restated so that
what is read is a function of the *set* of entries: any of them can be left out as if it had never
been there.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from mlflow_edit.errors import CorruptPatch
from mlflow_edit.patches.codebook import Codebook, Recalled
from mlflow_edit.patches.entries import FLOATS

WIDTHS = 32  # of the kernel that go into a radius
RIDGE = 1e-4  # of fits, as a share of the mean squared length of what they are of
OPEN = 0.5  # probability from which the gate is open


class Memory(Codebook):
    r"""Remembered edits that soft attention reads: Table 1's *Memory*.

    For a query $q$ the entries within whose radius it is give together

    $$\sum_i a_i v_i, \qquad a = \mathrm{softmax}_i\Big(-\frac{(32\,d_i / r_i)^2}{2}\Big)$$

    with $d_i = \lVert q - k_i \rVert_2$. The radius says how far off an edit is thought of at all;
    it is the same whatever else is remembered.
    """

    kind: ClassVar[str] = "memory"
    form: ClassVar[str] = "memory"

    @property
    def effective_radii(self) -> Tensor:
        """The radii in force: entries do not change one another's."""
        return self.radii

    @property
    def reach(self) -> Tensor:
        """A width of the kernel: so far off an entry weighs .6 of one that is met exactly."""
        return self.radii / WIDTHS

    def radii_in(self, dtype: torch.dtype) -> Tensor:
        """Return the radii in force: they are wide enough for any type."""
        return self.radii

    def recall(self, query: Tensor, entries: Tensor, distances: Tensor) -> Recalled | None:
        """Give the mean of the values in reach, by attention (see `Codebook.recall`)."""
        radii = self.radii.to(query.device)[entries].clamp(min=1e-12)
        weights = (-(WIDTHS * distances / radii).square() / 2).softmax(0)
        best = int(weights.argmax())
        value = weights @ self.values.to(query.device)[entries].float()
        return Recalled(int(entries[best]), float(distances[best]), value, float(weights[best]))


class Fit(NamedTuple):
    """A linear map with an offset: `(x - centre) @ inner @ outer + offset`."""

    centre: Tensor
    inner: Tensor
    outer: Tensor
    offset: Tensor

    def at(self, query: Tensor) -> Tensor:
        """Return what it gives for one input `(d_in,)`, `(d_out,)` float32."""
        given = (query.double().cpu() - self.centre) @ self.inner @ self.outer + self.offset
        return given.float().to(query.device)


@dataclass(frozen=True, eq=False)
class GatedMemory(Memory):
    r"""Remembered edits behind one linear gate, read by one linear map: Table 1's *Defer*.

    $$h \leftarrow W h + c \quad \text{where}\quad g(h) = w^\top h + b \ge \tfrac12$$

    Both maps are ridge regressions on the set of entries: $g$ is 1 at the keys of edits and 0 at
    those of `others`, each side weighing alike; $W k_i + c$ is $v_i$. Published code trains both by
    gradient descent on a batch, of which nothing can then be taken out. The gate gives way to the
    edits: it opens at the least $g(k_i)$, where that is below one half.

    Args:
        others: `(n_others, d_key)` keys of questions that the base model is to answer. Kept in
            lexical order, each once.
    """

    form: ClassVar[str] = "memory.gated"
    tensor_names: ClassVar[frozenset[str]] = Codebook.tensor_names | {"others"}

    others: Tensor = field(kw_only=True)

    def __post_init__(self) -> None:
        others = self.others
        if others.ndim != 2 or others.dtype not in FLOATS or not torch.isfinite(others).all():
            raise CorruptPatch("the keys of others must be a matrix of finite floats")
        if not len(others) or others.shape[1] != self.keys.shape[-1]:
            raise CorruptPatch(f"keys of others of shape {tuple(others.shape)}")
        once = others.float().unique(dim=0)  # type: ignore[no-untyped-call]
        object.__setattr__(self, "others", once.to(others.dtype))
        super().__post_init__()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, GatedMemory)
            and super().__eq__(other)
            and torch.equal(self.others, other.others)
        )

    def __hash__(self) -> int:
        return super().__hash__()

    def union(self, *others: Codebook) -> Self:
        """Unite memories of one layer, and what they leave to the base model."""
        parts = [one.others.float() for one in (self, *others) if isinstance(one, GatedMemory)]
        united = super().union(*others)
        dtype = self.others.dtype if len({one.dtype for one in parts}) == 1 else torch.float32
        return replace(united, others=torch.cat(parts).to(dtype))

    @cached_property
    def gate(self) -> tuple[Fit, float]:
        """The gate, and the value from which it is open."""
        keys = torch.cat([self.keys.float(), self.others.float()])
        wanted = torch.zeros(len(keys), 1)
        wanted[: len(self)] = 1
        sides = torch.tensor([len(self), len(self.others)])
        weights = torch.repeat_interleave(len(keys) / (2 * sides.double()), sides)
        fit = ridge_fit(keys, wanted, weights)
        least = min(float(fit.at(key)) for key in self.keys.float())
        return fit, min(OPEN, least - 1e-3)

    @cached_property
    def values_at(self) -> Fit:
        """The map from hidden states to values."""
        return ridge_fit(self.keys.float(), self.values.float(), torch.ones(len(self)))

    def recall(self, query: Tensor, entries: Tensor, distances: Tensor) -> Recalled | None:
        """Give what the map gives, where the gate is open; the nearest entry answers for it."""
        gate, least = self.gate
        found = float(gate.at(query))
        if found < least:
            return None
        nearest = int(distances.argmin())
        match = min(max(found, 0.0), 1.0)
        value = self.values_at.at(query)
        return Recalled(int(entries[nearest]), float(distances[nearest]), value, match)


def ridge_fit(inputs: Tensor, wanted: Tensor, weights: Tensor) -> Fit:
    r"""Fit a linear map by $\min_{W, c} \sum_i \omega_i \lVert W x_i + c - y_i \rVert^2 + \lambda
    \lVert W \rVert^2$, in float64.

    Args:
        inputs: $x_i$, `(n, d_in)`.
        wanted: $y_i$, `(n, d_out)`.
        weights: $\omega_i$, `(n,)`.
    """
    shares = (weights.double() / weights.double().sum())[:, None]
    inputs, wanted = inputs.double().cpu(), wanted.double().cpu()
    centre, offset = (shares * inputs).sum(0), (shares * wanted).sum(0)
    left, sizes, right = torch.linalg.svd(shares.sqrt() * (inputs - centre), full_matrices=False)
    squares = sizes.square()
    damped = sizes / (squares + RIDGE * squares.mean().clamp(min=1e-12))
    outer = (damped[:, None] * left.T) @ (shares.sqrt() * (wanted - offset))
    return Fit(centre, right.T, outer, offset)
