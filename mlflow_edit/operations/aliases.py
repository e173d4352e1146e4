"""What an alias points at: by the ledger, in the store, and how the two are made to agree."""

import re

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.gate import GateResult
from mlflow_edit.core.ledger import MAX_NOTE, Entry, Move, moves_of
from mlflow_edit.errors import (
    GateError,
    InvalidInputError,
    LostRaceError,
    VersionNotFound,
)
from mlflow_edit.operations.decision import decided
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import MAX_RACES, Registry, VersionInfo

_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,254}")
_RESERVED = re.compile(r"latest|v[0-9]+|head", re.IGNORECASE)


class Promotion(FrozenModel):
    """A move of an alias. Versions are numbers; `previous` is None where nothing held the alias."""

    name: str
    alias: str
    version: int
    digest: str
    previous: int | None
    gate: GateResult | None
    number: int | None


def checked_alias(alias: str) -> str:
    """Check the name of an alias.

    Raises:
        InvalidInputError: MLflow, or a reference to a version, would read it as something else.
    """
    if not _ALIAS.fullmatch(alias) or _RESERVED.fullmatch(alias):
        raise InvalidInputError(
            f"{alias!r} cannot be an alias",
            hint="Use letters, digits, '-' and '_'; not 'head', 'latest' or 'v1'.",
        )
    return alias


def holder_of(registry: Registry, name: str, alias: str) -> VersionInfo | None:
    """Return the version that an alias points at now."""
    return next((info for info in registry.versions(name) if alias in info.aliases), None)


def current_holder(
    registry: Registry, name: str, alias: str, entries: dict[int, Entry]
) -> VersionInfo | None:
    """Return the version that holds an alias by the last decision, or by a hand that moved it.

    A move stands in the ledger before its alias is set: an alias that points at what the ledger
    knows, but not at the last decision, lags behind it. Only where it points at something that no
    move names has somebody moved it past the ledger.
    """
    holder = holder_of(registry, name, alias)
    moves = moves_of(entries, alias)
    found = holder.digest if holder else None
    known = {digest for move in moves for digest in (move.previous, move.to)}
    if not moves or found == moves[-1].to or found not in known:
        return holder
    return next((v for v in registry.versions(name) if v.digest == moves[-1].to), None)


def check_holder(
    registry: Registry, name: str, alias: str, holder: VersionInfo | None, expected: str | None
) -> None:
    """Check that an alias is held by whom the caller thinks; `none` says by nobody.

    Raises:
        LostRaceError: somebody moved it since.
    """
    if expected is None:
        return
    wanted = None
    if expected.lower() != "none":
        text = expected if "@" in expected else f"{name}@{expected}"
        wanted = registry.resolve(parse_ref(text)).digest
    if wanted != (holder.digest if holder else None):
        found = f"version {holder.version}" if holder else "no version"
        raise LostRaceError(
            f"the alias {alias} of {name} is held by {found}, not by {expected}",
            hint="Somebody moved it; look at it and decide again.",
        )


def carry_out(registry: Registry, name: str, move: Move, author: str) -> None:
    """Set the alias; where the server refuses it, take the decision back and say why."""
    try:
        settle_alias(registry, name, move.alias)
    except GateError as error:
        opposite = "rollback" if move.kind == "promotion" else "promotion"
        decided(
            registry,
            name,
            lambda entries, facts: Move(
                kind=opposite, alias=move.alias, to=move.previous, previous=move.to, **facts
            ),
            author=author,
            note=f"Refused: {error.message}"[:MAX_NOTE],
        )
        raise


def settle_alias(registry: Registry, name: str, alias: str) -> None:
    """Make an alias agree with the ledger, however many writers there are.

    Whoever sets the alias reads the ledger again afterwards: so the last to set it has seen the
    last decision.

    Raises:
        GateError: a server that enforces gates refused the move.
        LostRaceError: the ledger does not come to rest.
    """
    wanted = _decided_holder(registry, name, alias)
    for _ in range(MAX_RACES):
        number = number_of(registry, name, wanted)
        if number is None and wanted is not None:
            raise VersionNotFound(
                f"version {wanted[:12]}, which should hold the alias {alias} of {name}, is gone",
                hint=f"Promote another one: mledit promote {name}@REF --to {alias}",
            )
        refused: GateError | None = None
        try:
            registry.set_alias(name, alias, number)
        except GateError as error:
            refused = error
        again = _decided_holder(registry, name, alias)
        if again == wanted:
            if refused is not None:
                raise refused
            return
        wanted = again
    raise LostRaceError(f"the alias {alias} of {name} is moved without end", hint="Try again.")


def _decided_holder(registry: Registry, name: str, alias: str) -> str | None:
    moves = moves_of(registry.ledger(name), alias)
    return moves[-1].to if moves else None


def move_in(entry: Entry) -> Move:
    """Return the move that an entry of the ledger is."""
    if not isinstance(entry, Move):
        raise TypeError(f"{type(entry).__name__} is no move")
    return entry


def number_of(registry: Registry, name: str, digest: str | None) -> int | None:
    """Return the number of a version, None where it is gone."""
    found = (info.version for info in registry.versions(name) if info.digest == digest)
    return next(found, None)


def promotion(info: VersionInfo, move: Move, previous: int | None, number: int) -> Promotion:
    """Tell of a move that stands in the ledger under a number."""
    return Promotion(
        name=info.name,
        alias=move.alias,
        version=info.version,
        digest=info.digest,
        previous=previous,
        gate=move.gate,
        number=number,
    )
