"""The history of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.ledger import Entry, MergeClosed, MergeOpened, MergeResolved, Move, Verdict
from mlflow_edit.core.lineage import Lineage
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.version_view import VersionView, view
from mlflow_edit.registry.names import VersionRef, model_name
from mlflow_edit.registry.registry import Registry, VersionInfo, heads, heads_to_join


class History(FrozenModel):
    """The versions of a model, newest first, and the ones that nothing was built on.

    `to_join` are the heads that a merge would change: the newest of each content.
    """

    name: str
    versions: tuple[VersionView, ...]
    heads: tuple[int, ...]
    to_join: tuple[int, ...] = ()


class Decision(FrozenModel):
    """One entry of the ledger, with versions by number."""

    number: int
    kind: str
    at: str
    who: str
    note: str
    version: int | None
    previous: int | None = None
    alias: str | None = None
    gate: dict[str, Any] | None = None
    conflict: str | None = None
    choice: str | None = None


class Decisions(FrozenModel):
    """Every decision about the versions of a model, oldest first."""

    name: str
    promotions: tuple[Decision, ...]


def log(name: str, span: str | None = None, *, registry: Registry | None = None) -> History:
    """List the versions of a model, newest first. No artifact is read.

    Args:
        name: the model.
        span: `A..B`: what B descends from and A does not; either may be left out (the root, head).
        registry: where; None takes MLflow's setting.

    Raises:
        VersionNotFound: there is no such model or version.
        InvalidInputError: the range is malformed.
    """
    registry = open_registry(registry)
    versions = registry.versions(model_name(name))
    chosen = versions
    if span is not None:
        old, dots, new = span.partition("..")
        if not dots or "." in new:
            raise InvalidInputError(
                f"{span!r} is no range", hint="Write A..B, for example 3..head."
            )
        lineage = Lineage({info.digest: info.parents for info in versions})
        last = registry.resolve(VersionRef(name, new or "head")).digest
        wanted = lineage.ancestors(last)
        if old:
            wanted -= lineage.ancestors(registry.resolve(VersionRef(name, old)).digest)
        chosen = [info for info in versions if info.digest in wanted]
    return History(
        name=name,
        versions=tuple(view(info) for info in reversed(chosen)),
        heads=tuple(info.version for info in heads(versions)),
        to_join=tuple(info.version for info in heads_to_join(versions)),
    )


def decisions(name: str, *, registry: Registry | None = None) -> Decisions:
    """List every move of an alias, refusal, approval, rejection and interrupted merge of a model.

    Raises:
        VersionNotFound: there is no such model.
        IntegrityError: an entry of the ledger is malformed.
    """
    registry = open_registry(registry)
    versions = registry.versions(model_name(name))
    return Decisions(name=name, promotions=decisions_about(versions, registry.ledger(name)))


def decisions_about(
    versions: Sequence[VersionInfo], entries: Mapping[int, Entry]
) -> tuple[Decision, ...]:
    """Read the entries of a ledger as decisions about versions, oldest first."""
    numbers = {info.digest: info.version for info in versions}
    return tuple(_decision(number, entry, numbers) for number, entry in entries.items())


def _decision(number: int, entry: Entry, numbers: dict[str, int]) -> Decision:
    about: str | None = None
    previous: str | None = None
    if isinstance(entry, Move):
        about, previous = entry.to, entry.previous
    elif isinstance(entry, Verdict | MergeClosed):
        about = entry.version
    elif isinstance(entry, MergeOpened):
        about, previous = entry.theirs, entry.ours
    return Decision(
        number=number,
        kind=entry.kind,
        at=entry.at,
        who=entry.who,
        note=entry.note,
        version=numbers.get(about or ""),
        previous=numbers.get(previous or ""),
        alias=entry.alias if isinstance(entry, Move) else None,
        conflict=entry.conflict if isinstance(entry, MergeResolved) else None,
        choice=entry.choice if isinstance(entry, MergeResolved) else None,
        gate=entry.gate.model_dump(mode="json") if isinstance(entry, Move) and entry.gate else None,
    )
