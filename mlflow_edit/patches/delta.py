"""Deltas: what a batch adds to the weights of the base model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.errors import CorruptPatch, InvalidInputError
from mlflow_edit.patches.changes import CHANGES, Change
from mlflow_edit.patches.patch import Patch
from mlflow_edit.patches.scope import Senses
from mlflow_edit.patches.substitution import Substitution
from mlflow_edit.patches.weights import Weights


@dataclass(frozen=True, eq=False)
class Delta(Patch):
    """Changes of weights, in the editor's own factors; several may be of one weight.

    Args:
        changes: in any order; kept by tensor, then by digest.
        edit_ids: the edits that were learned; kept sorted, each once.

    Raises:
        CorruptPatch: an edit id is malformed, or a change is there twice.
    """

    kind: ClassVar[str] = "delta"
    form: ClassVar[str] = "delta"

    changes: tuple[Change, ...]
    edit_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(edit, str) for edit in self.edit_ids):
            raise CorruptPatch("edit ids must be text")
        try:
            canonical_json(list(self.edit_ids))
        except InvalidInputError as error:
            raise CorruptPatch(f"an edit id is malformed: {error}") from error
        ordered = tuple(sorted(self.changes, key=lambda change: (change.tensor, change.digest)))
        if len(set(ordered)) != len(ordered):
            raise CorruptPatch("a delta holds the same change twice")
        object.__setattr__(self, "changes", ordered)
        object.__setattr__(self, "edit_ids", tuple(sorted(set(self.edit_ids))))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Delta)
            and self.changes == other.changes
            and self.edit_ids == other.edit_ids
        )

    def __hash__(self) -> int:
        return hash((self.changes, self.edit_ids))

    @property
    def touched(self) -> tuple[str, ...]:
        """The names of the parameters that are changed, sorted."""
        return tuple(sorted({change.tensor for change in self.changes}))

    @property
    def bytes(self) -> int:
        """Count the bytes of the tensors."""
        return sum(change.bytes for change in self.changes)

    def header(self) -> dict[str, Any]:
        """Return what the changes say of themselves, and the edit ids."""
        changes = [{"form": change.form, **change.header()} for change in self.changes]
        return {"changes": changes, "edit_ids": list(self.edit_ids)}

    def edit_ids_used(self) -> frozenset[str]:
        """Return the ids of the edits that were learned."""
        return frozenset(self.edit_ids)

    def tensors(self) -> dict[str, Tensor]:
        """Return the changes' tensors, under the place of each change."""
        return {
            f"{i}.{name}": tensor.detach().cpu().contiguous()
            for i, change in enumerate(self.changes)
            for name, tensor in change.tensors().items()
        }

    @classmethod
    def from_parts(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the delta from its parts.

        Raises:
            CorruptPatch: as `Patch.from_parts`.
        """
        if set(header) != {"changes", "edit_ids"}:
            raise CorruptPatch(f"a delta's header has the fields {sorted(header)}")
        if not isinstance(header["changes"], list) or not isinstance(header["edit_ids"], list):
            raise CorruptPatch("changes and edit ids must be lists")
        groups: dict[str, dict[str, Tensor]] = {str(i): {} for i in range(len(header["changes"]))}
        for path, tensor in tensors.items():
            place, _, name = path.partition(".")
            if place not in groups:
                raise CorruptPatch(f"the tensor {path!r} is of no change")
            groups[place][name] = tensor
        found = zip(header["changes"], groups.values(), strict=True)
        changes = tuple(_change(fields, parts) for fields, parts in found)
        return cls(changes, tuple(header["edit_ids"]))

    @contextmanager
    def attach(self, model: nn.Module, senses: Senses | None = None) -> Iterator[Substitution]:
        """Put the delta alone in force; several are composed by `patches.weights.Weights`.

        Raises:
            ShapeMismatch: the model has no such weight.
        """
        with Weights([("", self)]).attach(model) as attachment:
            yield attachment


def _change(fields: Any, tensors: dict[str, Tensor]) -> Change:
    if not isinstance(fields, dict) or not isinstance(fields.get("form"), str):
        raise CorruptPatch("a change is not an object with a form")
    if fields["form"] not in CHANGES:
        raise CorruptPatch(f"a change of the unknown form {fields['form'][:40]!r}")
    rest = {name: value for name, value in fields.items() if name != "form"}
    return CHANGES[fields["form"]].from_parts(rest, tensors)
