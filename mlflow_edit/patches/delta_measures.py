"""How large deltas are, and how far two of them meet; no base model is needed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlflow_edit.patches.changes import Change, Dense, LowRank, Sparse
from mlflow_edit.patches.delta import Delta


class TensorOverlap(NamedTuple):
    """A weight that two deltas change, and how far they meet there, in [0, 1]."""

    tensor: str
    measure: float


def frobenius(added: Sequence[Change], removed: Sequence[Change] = ()) -> float | None:
    """Return the Frobenius norm of what is added to one weight, less what is removed.

    None where a dense change takes part: what it adds only the base can tell.
    """
    changes = [*added, *removed]
    if any(isinstance(change, Dense) for change in changes):
        return None
    shapes = [change.shape for change in changes if change.shape is not None]
    n_flat = [int(c.indices[-1]) + 1 for c in changes if isinstance(c, Sparse) and len(c.indices)]
    nothing = torch.zeros(shapes[0] if shapes else max(n_flat, default=0))
    total = nothing.double()
    for sign, some in ((1, added), (-1, removed)):
        for change in some:
            total += sign * change.added(nothing)
    return float(total.norm())


def overlaps_of(ours: Delta, theirs: Delta) -> list[TensorOverlap]:
    r"""Measure how far two deltas meet on each weight that both change, most first.

    For products of factors, the cosine of the smallest principal angle between the spaces that the
    factors span, the larger of both sides (whichever holds the keys; how a layer stores its weight
    decides that): $\sigma_{max}(Q_a^T Q_b)$. For other changes, the share of the smaller one's
    elements that the other changes as well.
    """
    found = []
    for name in sorted(set(ours.touched) & set(theirs.touched)):
        pairs = [
            _overlap(a, b)
            for a in ours.changes
            for b in theirs.changes
            if a.tensor == b.tensor == name
        ]
        found.append(TensorOverlap(name, max(pairs)))
    return sorted(found, key=lambda one: (-one.measure, one.tensor))


def _overlap(ours: Change, theirs: Change) -> float:
    if isinstance(ours, LowRank) and isinstance(theirs, LowRank):
        if ours.shape != theirs.shape:
            return 0.0
        right = _cosine(ours.right.T, theirs.right.T)
        return max(right, _cosine(ours.left, theirs.left))
    if isinstance(ours, Sparse) and isinstance(theirs, Sparse):
        common = int(torch.isin(ours.indices, theirs.indices).sum())
        return common / max(1, min(len(ours.indices), len(theirs.indices)))
    return 1.0


def _cosine(one: Tensor, other: Tensor) -> float:
    """Return the largest cosine between vectors of two column spaces."""
    first, second = _basis(one), _basis(other)
    if not first.shape[1] or not second.shape[1]:
        return 0.0
    return min(1.0, float(torch.linalg.matrix_norm(first.T @ second, 2)))


def _basis(columns: Tensor) -> Tensor:
    """Return an orthonormal basis of the column space."""
    if not columns.numel():
        return columns.double()[:, :0]
    left, sizes, _ = torch.linalg.svd(columns.double(), full_matrices=False)
    kept: Tensor = left[:, sizes > sizes[0] * 1e-9]
    return kept
