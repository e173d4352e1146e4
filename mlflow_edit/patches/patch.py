"""The thing that a batch leaves behind, whatever the editor: a codebook, a delta or a memory."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from mlflow_edit.patches.scope import Senses


@dataclass(frozen=True, slots=True)
class Firing:
    """One moment at which a patch changed what the model computed.

    `row` and `position` say where in the batch of token ids; `entry` which entry of the patch;
    `distance` and `radius` are L2 distances in the patch's key space; `match` is the probability
    that the user asks what the entry asks, where the scope has one, and of a memory the entry's
    share in the answer; `answering` tells whether it is for the answer that comes next, and not for
    an earlier turn of a conversation.
    """

    row: int
    position: int
    entry: int
    distance: float
    radius: float
    match: float | None = None
    answering: bool = True


class Attachment(Protocol):
    """A patch that is in force on a model."""

    def disabled(self) -> AbstractContextManager[None]:
        """Let the base model answer in this thread while the context lasts."""

    def recording(self) -> AbstractContextManager[list[Firing]]:
        """Collect the firings of this thread while the context lasts."""


class Patch(ABC):
    """What an edit batch leaves behind. Every patch obeys:

    * attaching changes no parameter of the model, and leaving the context restores every output
      bit for bit;
    * where the patch does not fire, the outputs are the base model's, bit for bit;
    * `from_parts(patch.header(), patch.tensors())` equals the patch.
    """

    kind: ClassVar[str]
    form: ClassVar[str]  # how it is written: a kind may have several

    @abstractmethod
    def header(self) -> dict[str, Any]:
        """Return everything but the tensors, as canonical-JSON values."""

    @abstractmethod
    def edit_ids_used(self) -> frozenset[str]:
        """Return the ids of the edits that the patch says it is of."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the named tensors, contiguous, on the CPU."""

    @classmethod
    @abstractmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the patch from its parts, checking every one.

        Raises:
            CorruptPatch: a part is missing, of the wrong shape or dtype, or not finite.
        """

    @abstractmethod
    def attach(
        self, model: nn.Module, senses: Senses | None = None
    ) -> AbstractContextManager[Attachment]:
        """Put the patch in force on `model` for the length of a context.

        Args:
            model: the base model.
            senses: what a scope by meaning needs; one by hidden states does without.

        Raises:
            ShapeMismatch: the model has not the layer, or the width, that the patch needs.
            UnsupportedFormat: the encoder that the patch needs is not here.
        """


@contextmanager
def appended(items: list[Any], item: Any) -> Iterator[None]:
    """Keep `item` at the end of `items` for the length of a context."""
    items.append(item)
    try:
        yield
    finally:
        del items[next(i for i, kept in enumerate(items) if kept is item)]  # not an equal one
