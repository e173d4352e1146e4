"""How large deltas are, and how far two of them meet; no base model is needed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mlflow_edit.errors import ShapeMismatch
from mlflow_edit.patches.changes import Change, Dense, LowRank, Sparse
from mlflow_edit.patches.delta import Delta

CHUNK = 2**20  # elements that are gathered at once


class TensorOverlap(NamedTuple):
    """A weight that two deltas change, and how far they meet there, in [0, 1]."""

    tensor: str
    measure: float


def frobenius(added: Sequence[Change], removed: Sequence[Change] = ()) -> float | None:
    r"""Return the Frobenius norm of what is added to one weight, less what is removed.

    None where a dense change takes part: what it adds only the base can tell. A patch may claim any
    shape: nothing is made that is larger than what it holds. Of factors $L = Q_L T_L$ and
    $R^T = Q_R T_R$ it is $\lVert T_L T_R^T \rVert$; of their product $P$ and sparse elements $S$
    the root of $\lVert P \rVert^2 + 2 \langle P, S \rangle + \lVert S \rVert^2$.

    Raises:
        ShapeMismatch: they are not changes of one weight.
    """
    signed = [(1.0, c) for c in added] + [(-1.0, c) for c in removed]
    if any(isinstance(change, Dense) for _, change in signed):
        return None
    left, right = _factors([(sign, c) for sign, c in signed if isinstance(c, LowRank)])
    indices, values = _elements([(sign, c) for sign, c in signed if isinstance(c, Sparse)])
    if not left.shape[1]:
        return float(values.norm())
    n_elements = left.shape[0] * right.shape[1]
    if len(indices) and int(indices.max()) >= n_elements:
        raise ShapeMismatch(f"a change of element {int(indices.max())}, of {n_elements}")
    triangles = [torch.linalg.qr(m, mode="r").R for m in (left, right.T)]
    product = float((triangles[0] @ triangles[1].T).square().sum())
    common = 0.0
    n_rows = max(1, CHUNK // left.shape[1])
    for places, some in zip(torch.split(indices, n_rows), torch.split(values, n_rows), strict=True):
        rows, cols = places // right.shape[1], places % right.shape[1]
        common += float(((left[rows] * right[:, cols].T).sum(1) * some).sum())
    return math.sqrt(max(0.0, product + 2 * common + float(values.square().sum())))


def _factors(signed: Sequence[tuple[float, LowRank]]) -> tuple[Tensor, Tensor]:
    """Return the factors of a sum of products, float64: `(rows, n)` and `(n, cols)`."""
    shapes = {change.shape for _, change in signed}
    if len(shapes) > 1:
        raise ShapeMismatch(f"changes of one weight with the shapes {sorted(shapes)}")
    nothing = torch.zeros(0, 0, dtype=torch.float64)
    lefts = [change.left.double() * (sign * change.scale) for sign, change in signed]
    rights = [change.right.double() for _, change in signed]
    return (torch.cat(lefts, 1), torch.cat(rights)) if signed else (nothing, nothing)


def _elements(signed: Sequence[tuple[float, Sparse]]) -> tuple[Tensor, Tensor]:
    """Return the places of a sum of sparse changes, each once, and its values, float64."""
    nothing = torch.zeros(0, dtype=torch.float64)
    places = torch.cat([torch.zeros(0, dtype=torch.int64), *(c.indices for _, c in signed)])
    values = torch.cat([nothing, *(sign * change.values.double() for sign, change in signed)])
    once, which = torch.unique(places, return_inverse=True)
    return once, nothing.new_zeros(len(once)).index_add(0, which, values)


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
