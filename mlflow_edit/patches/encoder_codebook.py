"""Codebooks whose scope is what the user says: semantic keys, a re-check, and values to put."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.core.edit import normal_text
from mlflow_edit.errors import CorruptPatch, ShapeMismatch
from mlflow_edit.patches.encoder_entries import check_encoder_entries
from mlflow_edit.patches.encoder_scope import EncoderScope
from mlflow_edit.patches.interception import Inputs, Interception
from mlflow_edit.patches.patch import Attachment, Firing, Patch
from mlflow_edit.patches.scope import Encoder, Question, Senses

NAMES = ("layers", "prompts", "subjects", "labels", "edit_ids")
TENSORS = ("keys", "values", "spans", "radii", "thresholds")


@dataclass(frozen=True, eq=False)
class EncoderCodebook(Patch):
    """A set of entries that answer where a user asks what their prompts ask.

    Args:
        stack: path of the module that is given the token ids.
        encoder: digest of the encoder that made the keys and that decides.
        keys: `(n_entries, d_key)` float16 or float32, embeddings of the prompts.
        values: `(n_entries, max_span, d_model)`; entry `i` uses the last `spans[i]` of its rows.
        spans: `(n_entries,)` int64, how many positions up to the key token get a value. An entry
            of span 0 keeps what it is asked for with the base model.
        radii: `(n_entries,)` float32, how far off a passage may be to be looked at (L2).
        thresholds: `(n_entries,)` float32, the probability from which a query is in scope.
        layers: for each entry the path of the module whose output is replaced.
        prompts: for each entry what it is asked by.
        subjects: for each entry the subject that its prompt names, or nothing.
        labels: for each entry the digest of what it wants answered.
        edit_ids: for each entry the id of its edit.
        entry_digests: for each entry its digest, where entries of another codebook are taken over.

    Entries are kept in the order of their digests, each once: two codebooks with the same entries
    are the same codebook.

    Raises:
        CorruptPatch: shapes, dtypes or values that cannot be.
    """

    kind: ClassVar[str] = "codebook"
    form: ClassVar[str] = "codebook.encoder"

    stack: str
    encoder: str
    keys: Tensor
    values: Tensor
    spans: Tensor
    radii: Tensor
    thresholds: Tensor
    layers: tuple[str, ...]
    prompts: tuple[str, ...]
    subjects: tuple[str, ...]
    labels: tuple[str, ...]
    edit_ids: tuple[str, ...]
    entry_digests: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        check_encoder_entries(self)
        digests = self.entry_digests or [self._digest(i) for i in range(len(self.labels))]
        first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
        order = [first[digest] for digest in sorted(first)]
        if order != list(range(len(digests))):
            kept = torch.tensor(order, dtype=torch.long)
            for name in TENSORS:
                object.__setattr__(self, name, getattr(self, name)[kept].contiguous())
            for name in NAMES:
                object.__setattr__(self, name, tuple(getattr(self, name)[i] for i in order))
        object.__setattr__(self, "entry_digests", tuple(sorted(first)))

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncoderCodebook) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[str, str, tuple[str, ...]]:
        return self.stack, self.encoder, self.entry_digests

    def _digest(self, i: int) -> str:
        """Name one entry by its values, not by the float type or padding they are kept in."""
        said = [self.stack, self.encoder, *(getattr(self, name)[i] for name in NAMES)]
        numbers = [int(self.spans[i]), float(self.radii[i]), float(self.thresholds[i])]
        sha = hashlib.sha256(canonical_json([*said, *numbers]))
        sha.update(self.keys[i].float().numpy().tobytes())
        sha.update(self.values_of(i).float().contiguous().numpy().tobytes())
        return sha.hexdigest()

    @property
    def effective_radii(self) -> Tensor:
        """The radii in force: entries do not change one another's."""
        return self.radii

    def values_of(self, entry: int) -> Tensor:
        """Return what an entry puts in place, `(span, d_model)`."""
        return self.values[entry, self.values.shape[1] - int(self.spans[entry]) :]

    def question(self, entry: int) -> Question:
        """Return what an entry is asked by."""
        return Question(self.prompts[entry], self.subjects[entry])

    @cached_property
    def by_prompt(self) -> dict[str, int]:
        """The first entry of each prompt, its case and spaces folded."""
        return {normal_text(text): i for i, text in reversed(list(enumerate(self.prompts)))}

    def union(self, *others: "EncoderCodebook") -> "EncoderCodebook":
        """Unite codebooks of one encoder. Commutative, associative, idempotent.

        Raises:
            ShapeMismatch: they are of different encoders or widths.
        """
        books = [book for book in (self, *others) if len(book)] or [self]
        if len({(book.stack, book.encoder) for book in (self, *others)}) > 1:
            raise ShapeMismatch("codebooks of different encoders cannot be united")
        if len({(book.keys.shape[1], book.values.shape[2]) for book in books}) > 1:
            raise ShapeMismatch("codebooks of different widths cannot be united")
        span = max(book.values.shape[1] for book in books)
        tensors: dict[str, Any] = {
            name: _cat(
                [_padded(book, span) if name == "values" else getattr(book, name) for book in books]
            )
            for name in TENSORS
        }
        names: dict[str, Any] = {
            name: tuple(x for book in books for x in getattr(book, name)) for name in NAMES
        }
        digests = tuple(digest for book in books for digest in book.entry_digests)
        return EncoderCodebook(self.stack, self.encoder, **tensors, **names, entry_digests=digests)

    def without_edits(self, edit_ids: frozenset[str]) -> "EncoderCodebook":
        """Leave out the entries of these edits."""
        kept = [i for i, edit in enumerate(self.edit_ids) if edit not in edit_ids]
        rows = torch.tensor(kept, dtype=torch.long)
        tensors: dict[str, Any] = {name: getattr(self, name)[rows] for name in TENSORS}
        names: dict[str, Any] = {
            name: tuple(getattr(self, name)[i] for i in kept) for name in NAMES
        }
        digests = tuple(self.entry_digests[i] for i in kept)
        return EncoderCodebook(self.stack, self.encoder, **tensors, **names, entry_digests=digests)

    def header(self) -> dict[str, Any]:
        """Return everything but the tensors."""
        names = {name: list(getattr(self, name)) for name in NAMES}
        return {"stack": self.stack, "encoder": self.encoder, **names}

    def edit_ids_used(self) -> frozenset[str]:
        """Return the ids of the entries' edits."""
        return frozenset(self.edit_ids)

    def tensors(self) -> dict[str, Tensor]:
        """Return keys, values, spans, radii and thresholds."""
        return {name: getattr(self, name) for name in TENSORS}

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build a codebook from its parts.

        Raises:
            CorruptPatch: as `Patch.from_parts`.
        """
        if set(header) != {"stack", "encoder", *NAMES}:
            raise CorruptPatch(f"an encoder codebook's header has the fields {sorted(header)}")
        if set(tensors) != set(TENSORS):
            raise CorruptPatch(f"an encoder codebook has the tensors {sorted(tensors)}")
        if not all(isinstance(header[name], list) for name in NAMES):
            raise CorruptPatch("the names of an encoder codebook must be lists")
        names: dict[str, Any] = {name: tuple(header[name]) for name in NAMES}
        parts: dict[str, Any] = {**tensors, **names}
        return cls(header["stack"], header["encoder"], **parts)

    def scope(self, encoder: Encoder) -> EncoderScope:
        """Return what decides which entry answers: made once, for it indexes all entries."""
        if encoder.digest not in self._scopes:
            self._scopes[encoder.digest] = EncoderScope(self, encoder)
        return self._scopes[encoder.digest]

    @cached_property
    def _scopes(self) -> dict[str, EncoderScope]:
        return {}

    @contextmanager
    def attach(self, model: nn.Module, senses: Senses | None = None) -> Iterator[Attachment]:
        """Put values in place wherever the user asks for an entry.

        Raises:
            ShapeMismatch: the model has no such layer or width.
            UnsupportedFormat: the encoder is not here.
        """
        if senses is None:
            raise ValueError("an encoder codebook cannot be attached without reader and encoder")
        encoder = senses.encoder(self.encoder)
        if len(self) and encoder.embed([""]).shape[1] != self.keys.shape[1]:
            raise ShapeMismatch(f"keys of width {self.keys.shape[1]} are not of this encoder")
        scope = self.scope(encoder)
        with ExitStack() as stack:
            attached = []
            for layer in sorted(set(self.layers)):
                replace = _Replacement(self, layer, scope, senses)
                hook = Interception.of(model, layer=layer, stack=self.stack, replace=replace)
                attached.append(stack.enter_context(hook))
            yield _Together(attached)


class _Replacement:
    """Put the values of one layer's entries in place."""

    def __init__(
        self, book: EncoderCodebook, layer: str, scope: EncoderScope, senses: Senses
    ) -> None:
        self._book, self._layer, self._scope, self._reader = book, layer, scope, senses.reader

    def __call__(self, hidden: Tensor, inputs: Inputs, record: Any) -> Tensor | None:
        if inputs.token_ids is None:
            return None
        asked = self._reader.read(inputs.token_ids, inputs.attention_mask)
        found = self._scope.decide([one.query for one in asked])
        changed: Tensor | None = None
        firings = []
        for one, decision in zip(asked, found, strict=True):
            if not decision.in_scope or self._book.layers[decision.entry] != self._layer:
                continue
            values = self._book.values_of(decision.entry).to(hidden)
            if values.shape[-1] != hidden.shape[-1]:
                raise ShapeMismatch(f"values of width {values.shape[-1]}; {hidden.shape[-1]} asked")
            end = one.position + 1
            if end < len(values):
                continue  # a prompt shorter than what is put at its end
            changed = hidden.clone() if changed is None else changed
            changed[one.row, end - len(values) : end] = values
            firings.append(
                Firing(
                    one.row,
                    one.position,
                    decision.entry,
                    decision.distance,
                    float(self._book.radii[decision.entry]),
                    decision.match,
                    one.answering,
                )
            )
        if firings:
            record(firings)
        return changed


class _Together:
    """Several interceptions of one patch."""

    def __init__(self, attached: Sequence[Interception]) -> None:
        self._attached = attached

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Let the base model answer in this thread while the context lasts."""
        with ExitStack() as stack:
            for one in self._attached:
                stack.enter_context(one.disabled())
            yield

    @contextmanager
    def recording(self) -> Iterator[list[Firing]]:
        """Collect the firings of this thread while the context lasts."""
        firings: list[Firing] = []
        with ExitStack() as stack:
            for one in self._attached:
                stack.enter_context(one.recording(firings))
            yield firings


def _padded(book: EncoderCodebook, span: int) -> Tensor:
    missing = span - book.values.shape[1]
    return torch.nn.functional.pad(book.values, (0, 0, missing, 0))


def _cat(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate, keeping float16 only where all are: nothing is ever rounded again."""
    dtype = parts[0].dtype if len({part.dtype for part in parts}) == 1 else torch.float32
    return torch.cat([part.to(dtype) for part in parts])
