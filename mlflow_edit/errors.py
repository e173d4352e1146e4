"""Every exception that mlflow-edit raises.

```
MlflowEditError                     message, hint, exit code
├ InvalidInputError            2    the caller gave something malformed
│ ├ InvalidEdit                     edits that cannot be read, or that contradict one another
│ ├ InvalidParams                   an editor's parameter is unknown or out of range
│ ├ UnknownEditor                   no editor of that name is installed
│ └ ShapeMismatch                   a tensor has not the shape that its place needs
├ NotFoundError                3
│ ├ VersionNotFound                 no such model, version, alias or digest
│ └ EditNotFound                    the version holds no such edit
├ IntegrityError               4    what was read is not what was written
│ ├ DigestMismatch
│ ├ UnsupportedFormat
│ └ CorruptPatch
├ ConflictError                1
│ └ MergeConflict                   carries the conflicts
├ BisectFailed                 1    the good version is not good, or the bad one not bad
├ LostRaceError                5    an alias moved while we looked
├ GateError                    6    a version refused; carries the failing thresholds
├ BaseMismatchError            7    the base model is not the one that the edits were made for
├ EditingError                 8
│ ├ UnsupportedModel                the base's architecture is not known
│ └ NotConverged                    no edit of the batch could be learned
└ RegistryError                9    MLflow refused or cannot be reached; the cause is its exception
```
"""

from collections.abc import Sequence
from typing import Any, ClassVar


class MlflowEditError(Exception):
    """Say what was expected, what came, and what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def details(self) -> dict[str, Any]:
        """Return what the error carries beside its message, as JSON values."""
        return {}


class InvalidInputError(MlflowEditError):
    """The caller gave something malformed."""

    exit_code = 2


class InvalidEdit(InvalidInputError):
    """Edits that cannot be read, or that contradict one another.

    `problems` lists every one of them, each with its line and field.
    """

    def __init__(
        self, message: str, *, problems: Sequence[object] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)

    def details(self) -> dict[str, Any]:
        """Return the problems, a line each."""
        return {"problems": [str(problem) for problem in self.problems]}


class InvalidParams(InvalidInputError):
    """An editor's parameter is unknown or out of range."""


class UnknownEditor(InvalidInputError):
    """No editor of that name is installed."""


class ShapeMismatch(InvalidInputError):
    """A tensor has not the shape that its place needs."""


class NotFoundError(MlflowEditError):
    """Something that was named does not exist."""

    exit_code = 3


class VersionNotFound(NotFoundError):
    """No such model, version, alias or digest."""


class EditNotFound(NotFoundError):
    """The version holds no such edit."""


class IntegrityError(MlflowEditError):
    """What was read is not what was written."""

    exit_code = 4


class DigestMismatch(IntegrityError):
    """Stored content does not have the digest that names it."""


class UnsupportedFormat(IntegrityError):
    """The file is of a format that this release does not read."""


class CorruptPatch(IntegrityError):
    """A patch file is truncated, malformed or holds values that cannot be."""


class ConflictError(MlflowEditError):
    """Two changes cannot both stand."""

    exit_code = 1


class MergeConflict(ConflictError):
    """A merge found conflicts; `conflicts` carries them, `outcome` what `merge` would return."""

    def __init__(
        self,
        message: str,
        *,
        conflicts: Sequence[object] = (),
        outcome: Any = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.conflicts = tuple(conflicts)
        self.outcome = outcome

    def details(self) -> dict[str, Any]:
        """Return the conflicts."""
        return {"conflicts": [_plain(conflict) for conflict in self.conflicts]}


class BisectFailed(MlflowEditError):
    """The ends of a search are not as they were said to be, or its test was aborted."""

    exit_code = 1


class LostRaceError(MlflowEditError):
    """Somebody else moved what we were about to move."""

    exit_code = 5


class GateError(MlflowEditError):
    """A version refused; `failures` carries the thresholds that were not met."""

    exit_code = 6

    def __init__(
        self, message: str, *, failures: Sequence[object] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.failures = tuple(failures)

    def details(self) -> dict[str, Any]:
        """Return the failing thresholds."""
        return {"failures": [_plain(failure) for failure in self.failures]}


class BaseMismatchError(MlflowEditError):
    """The base model is not the one that the edits were made for."""

    exit_code = 7


class EditingError(MlflowEditError):
    """The algorithm could not make the edit."""

    exit_code = 8


class UnsupportedModel(EditingError):
    """The base model's architecture is not known, or has not what the editor needs."""


class NotConverged(EditingError):
    """No edit of the batch could be learned; `edits` names them."""

    def __init__(self, message: str, *, edits: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.edits = tuple(edits)

    def details(self) -> dict[str, Any]:
        """Return the ids of the edits."""
        return {"edits": list(self.edits)}


class RegistryError(MlflowEditError):
    """MLflow refused or cannot be reached; `__cause__` is its exception."""

    exit_code = 9


def _plain(value: object) -> Any:
    """Return the JSON form of a value that has one, or its text."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump else str(value)
