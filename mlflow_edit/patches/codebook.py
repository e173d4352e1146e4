"""Codebooks: immutable entries (key, value, label, radius) at one layer, as a set."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.errors import CorruptPatch, InvalidInputError, ShapeMismatch
from mlflow_edit.patches.interception import Interception
from mlflow_edit.patches.patch import Firing, Patch
from mlflow_edit.patches.radii import effective_radii, exact_distances

FLOATS = (torch.float16, torch.float32)
_LABEL = re.compile(r"^[0-9a-f]{64}$")


class Lookup(NamedTuple):
    """The answer to a query: entry `index`, L2 `distance`, and whether it is `in_scope`.

    All `(n_queries,)`. Where nothing is in scope, index and distance are the nearest entry's.
    """

    index: Tensor
    distance: Tensor
    in_scope: Tensor


@dataclass(frozen=True, eq=False)
class Codebook(Patch):
    """A set of entries that replace a layer's output where its input is near a key.

    Args:
        layer: path of the module whose output is read as key and replaced by the value.
        stack: path of the module that is given the token ids.
        keys: `(n_entries, d_key)` float16 or float32, the layer's own output at the key token.
        values: `(n_entries, d_model)` what it is replaced by.
        radii: `(n_entries,)` requested deferral radii, L2 units of the key space, float32.
        key_tokens: `(n_entries,)` int64, the token at which the key was read.
        labels: for each entry the digest of what it wants answered.
        edit_ids: for each entry the id of its edit.

    Entries are kept in the order of their digests, each once: two codebooks with the same entries
    are the same codebook.

    Raises:
        CorruptPatch: shapes, dtypes or values that cannot be.
    """

    kind: ClassVar[str] = "codebook"

    layer: str
    stack: str
    keys: Tensor
    values: Tensor
    radii: Tensor
    key_tokens: Tensor
    labels: tuple[str, ...]
    edit_ids: tuple[str, ...]
    entry_digests: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        _check(self)
        digests = [_entry_digest(self, i) for i in range(len(self.labels))]
        first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
        order = [first[digest] for digest in sorted(first)]
        if order != list(range(len(digests))):
            kept = torch.tensor(order, dtype=torch.long)
            for name in ("keys", "values", "radii", "key_tokens"):
                object.__setattr__(self, name, getattr(self, name)[kept].contiguous())
            object.__setattr__(self, "labels", tuple(self.labels[i] for i in order))
            object.__setattr__(self, "edit_ids", tuple(self.edit_ids[i] for i in order))
        object.__setattr__(self, "entry_digests", tuple(sorted(first)))

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Codebook)
            and (self.layer, self.stack) == (other.layer, other.stack)
            and self.entry_digests == other.entry_digests
        )

    def __hash__(self) -> int:
        return hash((self.layer, self.stack, self.entry_digests))

    @cached_property
    def effective_radii(self) -> Tensor:
        """The radii in force, `(n_entries,)`: see `patches.radii.effective_radii`."""
        return effective_radii(self.keys, self.radii, self.labels, self.key_tokens)

    def union(self, *others: "Codebook") -> "Codebook":
        """Unite codebooks of one layer. Commutative, associative, idempotent.

        Raises:
            ShapeMismatch: they are of different layers or widths.
        """
        books = [book for book in (self, *others) if len(book)] or [self]
        if len({(book.layer, book.stack) for book in (self, *others)}) > 1:
            layers = sorted({book.layer for book in (self, *others)})
            raise ShapeMismatch(f"codebooks of different layers cannot be united: {layers}")
        if len({(book.keys.shape[1], book.values.shape[1]) for book in books}) > 1:
            raise ShapeMismatch("codebooks of different widths cannot be united")
        return Codebook(
            layer=self.layer,
            stack=self.stack,
            keys=_cat([book.keys for book in books]),
            values=_cat([book.values for book in books]),
            radii=torch.cat([book.radii for book in books]),
            key_tokens=torch.cat([book.key_tokens for book in books]),
            labels=tuple(label for book in books for label in book.labels),
            edit_ids=tuple(edit for book in books for edit in book.edit_ids),
        )

    def without_edits(self, edit_ids: frozenset[str]) -> "Codebook":
        """Leave out the entries of these edits."""
        return self._only([i for i, edit in enumerate(self.edit_ids) if edit not in edit_ids])

    def _only(self, indices: Sequence[int]) -> "Codebook":
        kept = torch.tensor(indices, dtype=torch.long)
        return Codebook(
            layer=self.layer,
            stack=self.stack,
            keys=self.keys[kept],
            values=self.values[kept],
            radii=self.radii[kept],
            key_tokens=self.key_tokens[kept],
            labels=tuple(self.labels[i] for i in indices),
            edit_ids=tuple(self.edit_ids[i] for i in indices),
        )

    def nearest(self, queries: Tensor, tokens: Tensor | None = None) -> Lookup:
        r"""Find the entry that answers each query.

        Of the entries with the query's token whose ball contains it, $\lVert q - k_i \rVert_2 \le
        \epsilon_i$, the nearest answers; where there is none, the layer defers to the base model.

        Args:
            queries: `(n_queries, d_key)`.
            tokens: `(n_queries,)` the token at which each query was read; None compares all.

        Raises:
            ShapeMismatch: the width of `queries` is not `d_key`.
        """
        if queries.ndim != 2 or queries.shape[1] != self.keys.shape[1]:
            raise ShapeMismatch(
                f"queries of shape {tuple(queries.shape)}; expected (n, {self.keys.shape[1]})"
            )
        distances = exact_distances(queries.float(), self.keys.to(queries.device).float())
        if tokens is not None:
            other_token = tokens[:, None] != self.key_tokens.to(queries.device)[None, :]
            distances = distances.masked_fill(other_token, torch.inf)
        inside = distances <= self.effective_radii.to(queries.device)
        in_scope = inside.any(dim=1)
        ranked = torch.where(in_scope[:, None] & ~inside, torch.inf, distances)
        distance, index = ranked.min(dim=1)
        return Lookup(index, distance, in_scope)

    def header(self) -> dict[str, Any]:
        """Return the paths, labels and edit ids."""
        return {
            "layer": self.layer,
            "stack": self.stack,
            "labels": list(self.labels),
            "edit_ids": list(self.edit_ids),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return keys, values, radii and key tokens."""
        return {
            "keys": self.keys,
            "values": self.values,
            "radii": self.radii,
            "key_tokens": self.key_tokens,
        }

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build a codebook from its parts.

        Raises:
            CorruptPatch: as `Patch.from_parts`.
        """
        if set(header) != {"layer", "stack", "labels", "edit_ids"}:
            raise CorruptPatch(f"a codebook's header has the fields {sorted(header)}")
        if set(tensors) != {"keys", "values", "radii", "key_tokens"}:
            raise CorruptPatch(f"a codebook has the tensors {sorted(tensors)}")
        if not isinstance(header["labels"], list) or not isinstance(header["edit_ids"], list):
            raise CorruptPatch("labels and edit ids must be lists")
        return cls(
            layer=header["layer"],
            stack=header["stack"],
            labels=tuple(header["labels"]),
            edit_ids=tuple(header["edit_ids"]),
            **tensors,
        )

    @contextmanager
    def attach(self, model: nn.Module) -> Iterator[Interception]:
        """Replace the layer's output wherever an entry is in scope.

        Raises:
            ShapeMismatch: the model has no such layer.
        """
        with Interception.of(model, layer=self.layer, stack=self.stack, replace=_Replacer(self)) as i:
            yield i


class _Replacer:
    """Look up hidden states and put values in their place; keeps a copy of the keys per device."""

    def __init__(self, codebook: Codebook) -> None:
        self._codebook = codebook
        self._radii = codebook.effective_radii
        self._per_device: dict[torch.device, tuple[Tensor, ...]] = {}

    def __call__(
        self, hidden: Tensor, token_ids: Tensor | None, record: Callable[[list[Firing]], None]
    ) -> Tensor | None:
        """Return `hidden` with values in place, or None where nothing fires.

        Args:
            hidden: `(n_rows, n_positions, d_model)`.
            token_ids: `(n_rows, n_positions)` or None where they are not known.
            record: is told of every firing.
        """
        if not len(self._codebook):
            return None
        keys, squares, reach, radii, key_tokens, token_set = self._on(hidden.device)
        if hidden.shape[-1] != keys.shape[1]:
            raise ShapeMismatch(f"hidden states of width {hidden.shape[-1]}; keys of {keys.shape[1]}")
        if token_ids is None:
            rows, positions = torch.ones(hidden.shape[:2], dtype=torch.bool).nonzero(as_tuple=True)
        else:
            rows, positions = torch.isin(token_ids.to(hidden.device), token_set).nonzero(as_tuple=True)
        if not len(rows):
            return None
        queries = hidden[rows, positions].float()
        # |q - k|^2 by matrix product first: cheap, and wrong by rounding only, which `reach` allows
        q_squares = queries.square().sum(1)
        approximate = q_squares[:, None] + squares - 2 * queries @ keys.T
        slack = 1e-3 * (q_squares[:, None] + squares)
        near_query, near_entry = (approximate <= reach + slack).nonzero(as_tuple=True)
        if not len(near_query):
            return None
        distance = (queries[near_query] - keys[near_entry]).norm(dim=1)
        inside = distance <= radii[near_entry]
        if token_ids is not None:
            tokens = token_ids.to(hidden.device)[rows, positions]
            inside &= tokens[near_query] == key_tokens[near_entry]
        winners = _nearest_of_each(near_query[inside], near_entry[inside], distance[inside])
        if not winners:
            return None
        changed = hidden.clone()
        firings = []
        for query, (entry, length) in winners.items():
            row, position = int(rows[query]), int(positions[query])
            changed[row, position] = self._codebook.values[entry].to(hidden)
            firings.append(Firing(row, position, entry, length, float(self._radii[entry])))
        record(firings)
        return changed

    def _on(self, device: torch.device) -> tuple[Tensor, ...]:
        if device not in self._per_device:
            keys = self._codebook.keys.to(device).float()
            radii = self._radii.to(device)
            tokens = self._codebook.key_tokens.to(device)
            squares = keys.square().sum(1)
            parts = (keys, squares, radii.square(), radii, tokens, tokens.unique())
            self._per_device[device] = parts
        return self._per_device[device]


def _nearest_of_each(
    queries: Tensor, entries: Tensor, distances: Tensor
) -> dict[int, tuple[int, float]]:
    """Return for each query the nearest of its entries; of equally near ones the first."""
    best: dict[int, tuple[int, float]] = {}
    for query, entry, distance in zip(
        queries.tolist(), entries.tolist(), distances.tolist(), strict=True
    ):
        if query not in best or distance < best[query][1]:
            best[query] = (entry, distance)
    return best


def _cat(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate, keeping float16 only where all are: nothing is ever rounded again."""
    dtype = parts[0].dtype if len({part.dtype for part in parts}) == 1 else torch.float32
    return torch.cat([part.to(dtype) for part in parts])


def _entry_digest(book: Codebook, i: int) -> str:
    """Name one entry by its values, not by the float type that they are kept in."""
    sha = hashlib.sha256(
        canonical_json(
            [
                book.layer,
                book.labels[i],
                book.edit_ids[i],
                int(book.key_tokens[i]),
                float(book.radii[i]),
            ]
        )
    )
    sha.update(book.keys[i].float().numpy().tobytes())
    sha.update(book.values[i].float().numpy().tobytes())
    return sha.hexdigest()


def _check(book: Codebook) -> None:
    n_entries = len(book.labels)
    if book.keys.ndim != 2 or book.values.ndim != 2:
        raise CorruptPatch("keys and values must be matrices")
    lengths = {
        len(book.edit_ids), len(book.keys), len(book.values), len(book.radii), len(book.key_tokens),
    }  # fmt: skip
    if lengths != {n_entries} or book.radii.ndim != 1 or book.key_tokens.ndim != 1:
        raise CorruptPatch(f"the parts of the codebook differ in length: {n_entries}, {lengths}")
    if book.keys.dtype not in FLOATS or book.values.dtype not in FLOATS:
        raise CorruptPatch(f"keys and values of {book.keys.dtype}, {book.values.dtype}")
    if book.radii.dtype != torch.float32 or book.key_tokens.dtype != torch.int64:
        raise CorruptPatch("radii must be float32 and key tokens int64")
    for name in ("keys", "values", "radii"):
        if not torch.isfinite(getattr(book, name)).all():
            raise CorruptPatch(f"{name} hold NaN or infinity")
    if (book.radii < 0).any() or (book.key_tokens < 0).any():
        raise CorruptPatch("radii and key tokens cannot be negative")
    strings = (book.layer, book.stack, *book.labels, *book.edit_ids)
    if not all(isinstance(text, str) for text in strings) or not book.layer:
        raise CorruptPatch("layer, stack, labels and edit ids must be text")
    if not all(_LABEL.match(label) for label in book.labels):
        raise CorruptPatch("a label is not a digest")
    try:
        canonical_json(list(book.edit_ids))
    except InvalidInputError as error:
        raise CorruptPatch(f"an edit id is malformed: {error}") from error
