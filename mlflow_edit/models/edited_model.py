"""A base model with the patches of a version in force."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mlflow_edit.core.results import Fired
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.composition import Composition
from mlflow_edit.patches.patch import Attachment, Firing


class EditedModel:
    """A transformers model and tokenizer with edits attached; the weights are the base's own.

    Use `model` and `tokenizer` as any other: `generate`, pipelines and plain forward calls agree.
    """

    def __init__(self, base: BaseModel, composition: Composition) -> None:
        self.base = base
        self.composition = composition
        self._attached = ExitStack()
        self._attachments: list[Attachment] = [
            self._attached.enter_context(patch.attach(base.model)) for patch in composition.patches
        ]

    @property
    def model(self) -> Any:
        """The transformers model, with the edits in force."""
        return self.base.model

    @property
    def tokenizer(self) -> Any:
        """The base model's tokenizer."""
        return self.base.tokenizer

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """Give the base model, in this thread, for the length of a context."""
        with ExitStack() as stack:
            for attachment in self._attachments:
                stack.enter_context(attachment.disabled())
            yield self.base.model

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
        self._attachments = []

    def __enter__(self) -> "EditedModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


class FiringLog:
    """Which edits answered which rows of a batch."""

    def __init__(self, composition: Composition, firings: list[list[Firing]]) -> None:
        self._composition = composition
        self._firings = firings

    def rows(self) -> frozenset[int]:
        """Return the rows in which anything fired."""
        return frozenset(firing.row for firings in self._firings for firing in firings)

    def of_row(self, row: int) -> Fired | None:
        """Return the edit that answers a row: the one at its last position that fired."""
        best: tuple[int, Fired] | None = None
        for book, firings in zip(self._composition.patches, self._firings, strict=True):
            for firing in firings:
                if firing.row == row and (best is None or firing.position > best[0]):
                    fired = Fired(
                        edit_id=book.edit_ids[firing.entry],
                        batch=self._composition.batch_of[book.entry_digests[firing.entry]],
                        distance=firing.distance,
                        radius=firing.radius,
                    )
                    best = (firing.position, fired)
        return best[1] if best else None
