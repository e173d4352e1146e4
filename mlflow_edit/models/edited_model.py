"""A base model with the patches of a version in force."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch

from mlflow_edit.core.results import Fired
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.conversation import PlainReader
from mlflow_edit.models.encoder import sentence_encoder
from mlflow_edit.models.prompts import Prompt, prompt_ids
from mlflow_edit.models.senses import ModelSenses
from mlflow_edit.patches.composition import Composition
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.patch import Attachment, Firing
from mlflow_edit.patches.scope import Encoder, Query
from mlflow_edit.patches.substitution import substituted


class EditedModel:
    """A transformers model and tokenizer with edits attached; the base's weights stay as they are.

    Use `model` and `tokenizer` as any other: `generate`, pipelines and plain forward calls agree.
    One base model carries one version at a time: attach a second where the first is `disabled`, or
    load the base twice. The model's own parameters and `state_dict` are the base's, so it refuses
    `save_pretrained`, which would leave the edits out.
    """

    def __init__(
        self,
        base: BaseModel,
        composition: Composition,
        *,
        encoders: Callable[[str], Encoder] | None = None,
    ) -> None:
        self.base = base
        self.composition = composition
        self._attached = ExitStack()
        self._named: str | None = None
        self._substitution: Attachment | None = None
        self._attached.enter_context(_unsaved(base.model))
        if composition.weights is not None:
            tensors, self._named = composition.weights.materialised(base.model)
            context = substituted(base.model, tensors)
            self._substitution = self._attached.enter_context(context)
        self._senses = ModelSenses(base, encoders or base.encoders or sentence_encoder)
        self._attachments: list[Attachment] = [
            self._attached.enter_context(patch.attach(base.model, self._senses))
            for patch in composition.patches
        ]
        if any(isinstance(patch, EncoderCodebook) for patch in composition.patches):
            self._attached.enter_context(self._senses.telling_prompts())

    @property
    def model(self) -> Any:
        """The transformers model, with the edits in force."""
        return self.base.model

    @property
    def tokenizer(self) -> Any:
        """The base model's tokenizer."""
        return self.base.tokenizer

    @property
    def reweighted(self) -> bool:
        """Tell whether deltas are in force: then any answer may be another than the base's."""
        return self._substitution is not None

    @cached_property
    def weights_digest(self) -> str | None:
        """The digest of the weights in force (see `patches.weights`), None without deltas."""
        found = self.composition.weights
        return None if found is None else self._named or found.digest(self.base.model)

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """Give the base model, in this thread, for the length of a context."""
        with ExitStack() as stack:
            if self._substitution is not None:
                stack.enter_context(self._substitution.disabled())
            stack.enter_context(self.silenced())
            yield self.base.model

    @contextmanager
    def silenced(self) -> Iterator[Any]:
        """Let no codebook answer, in this thread; deltas stay in force."""
        with ExitStack() as stack:
            for attachment in self._attachments:
                stack.enter_context(attachment.disabled())
            yield self.base.model

    def encoder(self, digest: str) -> Encoder:
        """Return the sentence encoder of that digest (see `patches.scope.Senses`)."""
        return self._senses.encoder(digest)

    def query_of(self, prompt: Prompt) -> Query:
        """Return what a prompt asks last, as scopes by meaning read it."""
        ids = torch.tensor([prompt_ids(self.base, prompt)])
        asked = self._senses.reader.read(ids, None)
        return asked[-1].query if asked else Query("")

    def prompts_end_at(self, ends: Sequence[int]) -> AbstractContextManager[None]:
        """Say for this thread at which column each row's prompt ends, where answers follow it.

        Models with a chat template are told by their tokens, and need not be told.
        """
        reader = self._senses.reader
        return reader.ending_at(ends) if isinstance(reader, PlainReader) else nullcontext()

    @contextmanager
    def recording(self) -> Iterator["FiringLog"]:
        """Note which edits answer, in this thread, for the length of a context."""
        with ExitStack() as stack:
            yield FiringLog(
                self.composition,
                [stack.enter_context(attachment.recording()) for attachment in self._attachments]
                or [[] for _ in self.composition.patches],  # detached: nothing fires
            )

    def detach(self) -> None:
        """Take the edits off the model for good: it is the base again, bit for bit."""
        self._attached.close()
        self._attachments, self._substitution = [], None

    def __enter__(self) -> "EditedModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


@contextmanager
def _unsaved(model: Any) -> Iterator[None]:
    """Let a model refuse to be saved: its parameters are the base's."""

    def save_pretrained(*_: Any, **__: Any) -> None:
        raise InvalidInputError(
            "save_pretrained would write the base model, without its edits",
            hint="Write the version: mledit export NAME@REF --as merged, or --as packed.",
        )

    model.save_pretrained = save_pretrained
    try:
        yield
    finally:
        if vars(model).get("save_pretrained") is save_pretrained:
            del model.save_pretrained


class FiringLog:
    """Which edits answered which rows of a batch."""

    def __init__(self, composition: Composition, firings: list[list[Firing]]) -> None:
        self._composition = composition
        self._firings = firings

    def rows(self) -> frozenset[int]:
        """Return the rows in which anything fired."""
        return frozenset(firing.row for firings in self._firings for firing in firings)

    def of_row(self, row: int) -> Fired | None:
        """Return the edit that answers a row: the one at its last position that fired.

        An edit that fired at an earlier turn of a conversation is not it. Where two codebooks put a
        value in one place, the later one's stands.
        """
        best: tuple[int, Fired] | None = None
        for book, firings in zip(self._composition.patches, self._firings, strict=True):
            for firing in firings:
                mine = firing.row == row and firing.answering
                if mine and (best is None or firing.position >= best[0]):
                    fired = Fired(
                        edit_id=book.edit_ids[firing.entry],
                        batch=self._composition.batch_of[book.entry_digests[firing.entry]],
                        distance=firing.distance,
                        radius=firing.radius,
                        match=firing.match,
                    )
                    best = (firing.position, fired)
        return best[1] if best else None
