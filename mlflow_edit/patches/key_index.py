"""Find the keys nearest to embeddings: all are compared, or, where they are many, all codes."""

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor

EXACT_UP_TO = 100_000  # entries; above it, codes are compared first (docs/decisions/0009)
TRAINING_KEYS = 20_000  # that codes are learned from
CODES_FOR_EACH = 64  # nearest codes whose keys are compared, for each entry that is wanted
ROWS = 64  # embeddings that are compared with all keys at once
CODED_AT_ONCE = 50_000  # keys, so that no second copy of all is made

Shortlist = Callable[[Tensor, int], list[Tensor]]


class KeyIndex:
    """The nearest of a fixed set of keys: a pure function of the keys and one embedding.

    Up to `EXACT_UP_TO` entries what is found is exact. Above, 4-bit codes of all keys (faiss, a
    product quantizer; 48 bytes for a key of 384) choose `CODES_FOR_EACH * k` keys, which are
    compared exactly; a nearest key may be missed. Without faiss, all keys are compared at any
    size. Codes are learned on the first search and are the same for the same keys in one order.

    Args:
        keys: unit length, `(n_entries, d_key)`, d_key a multiple of 4; not copied where they are
            many or float32.
    """

    def __init__(self, keys: Tensor) -> None:
        self._keys = keys
        self._shortlist: Shortlist | None = None
        self._lock = Lock()

    def search(self, embeddings: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the cosine similarities of the k nearest entries and their numbers, best first.

        Both are `(n_embeddings, min(k, n_entries))`, float32 and int64. Of equal similarities the
        smaller entry comes first.
        """
        k = min(k, len(self._keys))
        similar = torch.empty(len(embeddings), k)
        entries = torch.empty(len(embeddings), k, dtype=torch.long)
        if k:
            shortlist = self._built()
            chosen = [
                one for part in torch.split(embeddings, ROWS) for one in shortlist(part.float(), k)
            ]
            for i, entries_chosen in enumerate(chosen):
                similar[i], entries[i] = self._best(embeddings[i], entries_chosen, k)
        return similar, entries

    def _best(self, embedding: Tensor, entries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Rank some entries, in ascending order, in float64: no batch changes how it rounds."""
        similar = (self._keys[entries].double() * embedding.double()).sum(dim=1).float()
        best = similar.sort(descending=True, stable=True)
        return best.values[:k], entries[best.indices[:k]]

    def _built(self) -> Shortlist:
        with self._lock:
            if self._shortlist is None:
                many = len(self._keys) > EXACT_UP_TO
                self._shortlist = _by_code(self._keys) if many else _by_key(self._keys)
            return self._shortlist


def _by_key(keys: Tensor) -> Shortlist:
    """Choose every entry that may be among the nearest, as exactly as float32 tells."""
    keys = keys.float()
    rounding = keys.shape[1] * torch.finfo(torch.float32).eps  # of two products of unit vectors

    def shortlist(embeddings: Tensor, k: int) -> list[Tensor]:
        similar = embeddings @ keys.T
        least = similar.topk(k).values[:, -1:] - rounding
        return [row.nonzero()[:, 0] for row in similar >= least]

    return shortlist


def _by_code(keys: Tensor) -> Shortlist:
    """Choose the entries of the nearest codes; all that may be nearest, where faiss is missing."""
    try:
        import faiss
    except ImportError:
        return _by_key(keys)
    n_entries, d_key = keys.shape
    codes = faiss.IndexPQFastScan(d_key, d_key // 4, 4, faiss.METRIC_INNER_PRODUCT)
    codes.train(keys[:: -(-n_entries // TRAINING_KEYS)].float().numpy())
    for part in torch.split(keys, CODED_AT_ONCE):
        codes.add(part.float().numpy())

    def shortlist(embeddings: Tensor, k: int) -> list[Tensor]:
        wanted = min(CODES_FOR_EACH * k, n_entries)
        rows = embeddings.numpy()[:, None]  # each alone: what is found must not depend on others
        found = [torch.from_numpy(codes.search(row, wanted)[1][0]) for row in rows]
        return [entries[entries >= 0].sort().values for entries in found]

    return shortlist
