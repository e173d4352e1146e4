"""What every editor is: an algorithm that turns a base model and an edit batch into a patch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from pydantic import ValidationError

from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.errors import InvalidParams
from mlflow_edit.models.architecture import Task
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.patch import Patch


class EditorParams(FrozenModel):
    """The settings of an editor: every field has a default, a range and a description."""


Params = TypeVar("Params", bound=EditorParams)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How learning one edit went; `loss` is in nats per answer token."""

    edit_id: str
    solved: bool
    loss: float
    steps: int


@dataclass(frozen=True, slots=True)
class Learning:
    """What an editor made: a patch of the edits that were solved, and how each went."""

    patch: Patch
    outcomes: tuple[Outcome, ...]


class Progress(Protocol):
    """Told how far an editor is: edits solved so far, of how many, at what mean loss."""

    def __call__(self, solved: int, total: int, loss: float) -> None:
        """Report progress."""


class Editor(ABC, Generic[Params]):
    """An editing algorithm. Every editor obeys:

    * the base model is bit-identical before and after `learn`;
    * equal base, batch and params give a patch with an equal digest on one machine;
    * edits that cannot be learned are named in the outcomes, and the others are in the patch;
    * an edit's id is all that ties the patch to it: nothing is kept between calls.
    """

    name: ClassVar[str]
    tasks: ClassVar[frozenset[Task]]
    params_type: ClassVar[type[EditorParams]]

    def __init__(self, params: Params) -> None:
        self.params = params

    @classmethod
    def with_params(cls, given: Mapping[str, Any]) -> Self:
        """Make the editor from settings given by name, as text or typed.

        Raises:
            InvalidParams: a setting is unknown or out of range; all of them are named.
        """
        try:
            return cls(cls.params_type.model_validate(dict(given)))  # type: ignore[arg-type]
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']} (came: {e['input']!r})"
                for e in error.errors()
            )
            fields = cls.params_type.model_fields
            known = ", ".join(f"{name}={field.default}" for name, field in fields.items())
            raise InvalidParams(
                f"parameters of the editor {cls.name!r}: {wrong}",
                hint=f"Its parameters and their defaults: {known}",
            ) from error

    @abstractmethod
    def learn(
        self,
        base: BaseModel,
        batch: EditBatch,
        progress: Progress,
        *,
        earlier: Sequence[Edit] = (),
    ) -> Learning:
        """Learn a batch.

        Args:
            base: the base model; deltas that the batch is learned on top of are attached to it.
            batch: what is to be learned.
            progress: is told how far it is.
            earlier: the edits of those deltas, for editors that keep them in mind.

        Raises:
            InvalidEdit: an edit cannot be put to this model (too long, no tokens, no such class).
            UnsupportedModel: the model has not what the editor needs.
        """
