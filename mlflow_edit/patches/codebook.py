"""Codebooks: immutable entries (key, value, label, radius) at one layer, as a set."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from mlflow_edit.errors import CorruptPatch, ShapeMismatch
from mlflow_edit.patches.entries import check_entries, entry_digest
from mlflow_edit.patches.interception import Interception
from mlflow_edit.patches.patch import Patch
from mlflow_edit.patches.radii import effective_radii, exact_distances
from mlflow_edit.patches.replacement import Replacement
from mlflow_edit.patches.scope import Senses


class Lookup(NamedTuple):
    """The answer to a query: entry `index`, L2 `distance`, and whether it is `in_scope`.

    All `(n_queries,)`. Where nothing is in scope, index and distance are the nearest entry's; where
    no entry has the query's token the distance is infinite; an empty codebook gives the index -1.
    """

    index: Tensor  # type: ignore[assignment]
    distance: Tensor
    in_scope: Tensor


class Recalled(NamedTuple):
    """What a set of entries gives for one hidden state: which of them answers, and the value.

    `match` is how surely, in [0, 1], where the way of reading tells.
    """

    entry: int
    distance: float
    value: Tensor
    match: float | None = None


PRECISION_SLACK = 1.5  # measured: SmolLM2 in bfloat16 moves keys by 0.6 to 1.1 times its eps


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
        entry_digests: for each entry its digest, where entries of another codebook are taken over.

    Entries are kept in the order of their digests, each once: two codebooks with the same entries
    are the same codebook.

    Raises:
        CorruptPatch: shapes, dtypes or values that cannot be.
    """

    kind: ClassVar[str] = "codebook"
    form: ClassVar[str] = "codebook"
    tensor_names: ClassVar[frozenset[str]] = frozenset({"keys", "values", "radii", "key_tokens"})

    layer: str
    stack: str
    keys: Tensor
    values: Tensor
    radii: Tensor
    key_tokens: Tensor
    labels: tuple[str, ...]
    edit_ids: tuple[str, ...]
    entry_digests: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        check_entries(self)
        digests = self.entry_digests or [entry_digest(self, i) for i in range(len(self.labels))]
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
            and self.place == other.place
            and self.entry_digests == other.entry_digests
        )

    def __hash__(self) -> int:
        return hash((*self.place, self.entry_digests))

    @property
    def place(self) -> tuple[str, str, str]:
        """The form and where it acts: what those that can be united have in common."""
        return self.form, self.layer, self.stack

    @cached_property
    def effective_radii(self) -> Tensor:
        """The radii in force, `(n_entries,)`: see `patches.radii.effective_radii`."""
        return effective_radii(self.keys, self.radii, self.labels, self.key_tokens)

    @property
    def reach(self) -> Tensor:
        """How far off entries take part in an answer that another may give, `(n_entries,)`."""
        return self.radii

    def radii_in(self, dtype: torch.dtype) -> Tensor:
        """Return the radii in force, `(n_entries,)`, in a model that computes in `dtype`.

        A type shorter than float32 moves a hidden state by a share of its norm that its precision
        sets: the requested radii grow by `PRECISION_SLACK` times that, or an edit would miss its
        own prompt. Balls of entries that disagree still never overlap.
        """
        if torch.finfo(dtype).bits >= 32:
            return self.effective_radii
        slack = PRECISION_SLACK * torch.finfo(dtype).eps * self.keys.float().norm(dim=1)
        return effective_radii(self.keys, self.radii + slack, self.labels, self.key_tokens)

    def union(self, *others: "Codebook") -> Self:
        """Unite codebooks of one layer. Commutative, associative, idempotent.

        Raises:
            ShapeMismatch: they are of different layers, forms or widths.
        """
        all_books: tuple[Codebook, ...] = (self, *others)
        books = [book for book in all_books if len(book)] or [self]
        if len({book.place for book in all_books}) > 1:
            layers = sorted({f"{book.layer} ({book.form})" for book in all_books})
            raise ShapeMismatch(f"codebooks of different layers cannot be united: {layers}")
        if len({(book.keys.shape[1], book.values.shape[1]) for book in books}) > 1:
            raise ShapeMismatch("codebooks of different widths cannot be united")
        return replace(
            self,
            keys=_cat([book.keys for book in books]),
            values=_cat([book.values for book in books]),
            radii=torch.cat([book.radii for book in books]),
            key_tokens=torch.cat([book.key_tokens for book in books]),
            labels=tuple(label for book in books for label in book.labels),
            edit_ids=tuple(edit for book in books for edit in book.edit_ids),
            entry_digests=tuple(digest for book in books for digest in book.entry_digests),
        )

    def without_edits(self, edit_ids: frozenset[str]) -> Self:
        """Leave out the entries of these edits."""
        return self._only([i for i, edit in enumerate(self.edit_ids) if edit not in edit_ids])

    def _only(self, indices: Sequence[int]) -> Self:
        kept = torch.tensor(indices, dtype=torch.long)
        return replace(
            self,
            keys=self.keys[kept],
            values=self.values[kept],
            radii=self.radii[kept],
            key_tokens=self.key_tokens[kept],
            labels=tuple(self.labels[i] for i in indices),
            edit_ids=tuple(self.edit_ids[i] for i in indices),
            entry_digests=tuple(self.entry_digests[i] for i in indices),
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
        if not len(self):
            nothing = distances.new_full((len(queries),), torch.inf)
            return Lookup(torch.full_like(nothing, -1).long(), nothing, nothing < 0)
        inside = distances <= self.effective_radii.to(queries.device)
        in_scope = inside.any(dim=1)
        ranked = torch.where(in_scope[:, None] & ~inside, torch.inf, distances)
        index = ranked.argmin(dim=1)  # of equally near entries the first
        return Lookup(index, ranked.gather(1, index[:, None])[:, 0], in_scope)

    def recall(self, query: Tensor, entries: Tensor, distances: Tensor) -> Recalled | None:
        """Tell what answers a query; None defers to the base model.

        Args:
            query: `(d_key,)` float32.
            entries: `(n,)` the entries that hold it, with its token, ascending; at least one.
            distances: `(n,)` how far it is from their keys.
        """
        nearest = int(distances.argmin())  # of equally near entries the first
        entry = int(entries[nearest])
        return Recalled(entry, float(distances[nearest]), self.values[entry])

    def header(self) -> dict[str, Any]:
        """Return the paths, labels and edit ids."""
        return {
            "layer": self.layer,
            "stack": self.stack,
            "labels": list(self.labels),
            "edit_ids": list(self.edit_ids),
        }

    def edit_ids_used(self) -> frozenset[str]:
        """Return the ids of the entries' edits."""
        return frozenset(self.edit_ids)

    def tensors(self) -> dict[str, Tensor]:
        """Return keys, values, radii and key tokens."""
        return {name: getattr(self, name) for name in sorted(self.tensor_names)}

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build a codebook from its parts.

        Raises:
            CorruptPatch: as `Patch.from_parts`.
        """
        if set(header) != {"layer", "stack", "labels", "edit_ids"}:
            raise CorruptPatch(f"the header of a {cls.form} has the fields {sorted(header)}")
        if set(tensors) != cls.tensor_names:
            raise CorruptPatch(f"a {cls.form} has the tensors {sorted(tensors)}")
        if not isinstance(header["labels"], list) or not isinstance(header["edit_ids"], list):
            raise CorruptPatch("labels and edit ids must be lists")
        parts: dict[str, Any] = {**header, **tensors}
        parts |= {name: tuple(header[name]) for name in ("labels", "edit_ids")}
        return cls(**parts)

    @contextmanager
    def attach(self, model: nn.Module, senses: Senses | None = None) -> Iterator[Interception]:
        """Replace the layer's output wherever an entry is in scope.

        Raises:
            ShapeMismatch: the model has no such layer.
        """
        with Interception.of(
            model, layer=self.layer, stack=self.stack, replace=Replacement(self)
        ) as i:
            yield i


def _cat(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate, keeping float16 only where all are: nothing is ever rounded again."""
    dtype = parts[0].dtype if len({part.dtype for part in parts}) == 1 else torch.float32
    return torch.cat([part.to(dtype) for part in parts])
