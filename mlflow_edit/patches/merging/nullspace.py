"""Project each update out of the directions that the other one answers to."""

import torch
from torch import Tensor

from mlflow_edit.patches.changes import Change, LowRank
from mlflow_edit.patches.merging.strategy import Settings, Update, as_they_are

SMALLEST = 1e-3
"""Directions whose size is below this share of the largest count as none."""
GROWTH = 3.0
"""The result is at most so many times as large as both updates are together."""


def nullspace(tensor: str, ours: Update, theirs: Update, settings: Settings) -> tuple[Change, ...]:
    r"""Let each side do to its own keys what it did alone, and nothing to the other's.

    An update $\Delta_i$ answers to the inputs of its key subspace, spanned by the columns of
    $K_i$ (the right singular vectors that count). To project one side only would depend on which
    is called the first, so both are, obliquely: with $[E_1; E_2] = [K_1 K_2]^+$ (pseudo-inverse),

    $$\Delta = \Delta_1 K_1 E_1 + \Delta_2 K_2 E_2.$$

    $E_1 K_2 = 0$ and $E_1 K_1 = I$ where the subspaces have nothing in common, so that
    $\Delta K_i = \Delta_i K_i$; in directions that both have, the result is their mean. Keys that
    are nearly parallel can be told apart only by an update that is larger by as much as they are
    near: what it would need beyond `GROWTH` is left out, the nearest first. After the
    null-space constraint of Fang et al., "AlphaEdit", 2024. Only one side's changes, or those of a
    vector, are added as they are.
    """
    if not ours.changes or not theirs.changes or ours.inputs is None:
        return as_they_are(tensor, ours.base, (*ours.changes, *theirs.changes))
    flip = ours.inputs == 0
    updates = [side.total.T if flip else side.total for side in (ours, theirs)]
    keys = [_keys(update) for update in updates]
    does = torch.cat([update @ k for update, k in zip(updates, keys, strict=True)], dim=1)
    if not does.numel():
        return ()
    largest = GROWTH * sum(float(update.norm()) for update in updates)
    found = _bounded_inverse(torch.cat(keys, dim=1), does, largest)
    left, right = does.float(), found.float()
    if flip:
        left, right = right.T, left.T
    return (LowRank(tensor, left.contiguous(), right.contiguous()),)


def _bounded_inverse(keys: Tensor, does: Tensor, largest: float) -> Tensor:
    r"""Return $K^+$ less the smallest singular values, so that $\lVert D K^+ \rVert$ is bounded.

    Args:
        keys: $K$, `(d, n)`.
        does: $D$, `(rows, n)`.
        largest: the bound.
    """
    left, sizes, right = torch.linalg.svd(keys, full_matrices=False)
    sizes = sizes[sizes > SMALLEST * sizes[:1]]
    grown = ((does @ right[: len(sizes)].T).square().sum(0) / sizes.square()).cumsum(0).sqrt()
    n_kept = int((grown <= largest).sum())
    inverse: Tensor = (right[:n_kept].T / sizes[:n_kept]) @ left[:, :n_kept].T
    return inverse


def _keys(update: Tensor) -> Tensor:
    """Return an orthonormal basis of the inputs that an update answers to, as columns."""
    _, sizes, directions = torch.linalg.svd(update, full_matrices=False)
    counted = sizes > SMALLEST * sizes[:1].clamp(min=torch.finfo(sizes.dtype).tiny)
    basis: Tensor = directions[counted].T
    return basis
