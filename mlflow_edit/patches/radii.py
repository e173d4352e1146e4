"""Deferral radii as a function of the set of entries: what makes codebooks free of order."""

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 1024


def effective_radii(
    keys: Tensor,
    radii: Tensor,
    labels: Sequence[str],
    key_tokens: Tensor,
    *,
    of: Tensor | None = None,
) -> Tensor:
    r"""Derive each entry's deferral radius from the whole set of entries.

    GRACE (Hartvigsen et al. 2023, arXiv:2211.11031) expands a ball when a neighbour agrees and
    splits it when a neighbour disagrees, at insertion, so that its codebook depends on the order
    of edits. The same two rules as a function of the set:

    $$\epsilon_i = \min\Big(\max\big(r_i, \max\{d_{ij} : y_j = y_i,\; d_{ij} \le r_i + r_j\}\big),
      \tfrac12 \min\{d_{ij} : y_j \ne y_i\}\Big)$$

    with $r_i$ the radius that the edit asked for and $d_{ij}$ the L2 distance of keys with the
    same key token. Balls of entries that disagree therefore never overlap.

    Args:
        keys: `(n_entries, d_key)`.
        radii: `(n_entries,)` requested radii, in L2 units of the key space.
        labels: what each entry wants answered; equal labels agree.
        key_tokens: `(n_entries,)`; entries with different key tokens never meet.
        of: `(n_wanted,)` indices of the entries whose radii are wanted; None wants all.

    Returns:
        `(n_wanted,)` float32.
    """
    wanted = torch.arange(len(radii)) if of is None else of
    requested = radii.float()
    codes = {label: code for code, label in enumerate(sorted(set(labels)))}
    label_codes = torch.tensor([codes[label] for label in labels], dtype=torch.long)
    keys = keys.float()
    effective = torch.empty(len(wanted))
    for start in range(0, len(wanted), CHUNK):
        part = slice(start, start + CHUNK)
        rows = wanted[part]
        distances = exact_distances(keys[rows], keys)  # (chunk, n_entries)
        comparable = key_tokens[rows, None] == key_tokens[None, :]
        agrees = label_codes[rows, None] == label_codes[None, :]
        touching = distances <= requested[rows, None] + requested[None, :]
        reached = torch.where(comparable & agrees & touching, distances, 0).amax(dim=1)
        nearest_foe = torch.where(comparable & ~agrees, distances, torch.inf).amin(dim=1)
        effective[part] = torch.minimum(torch.maximum(requested[rows], reached), nearest_foe / 2)
    return effective


def exact_distances(queries: Tensor, keys: Tensor) -> Tensor:
    """Return L2 distances `(n_queries, n_keys)`, without the cancellation of the matrix form."""
    return torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist")
