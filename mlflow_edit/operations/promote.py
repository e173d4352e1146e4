"""Move aliases: promote a version past a gate, and take it back."""

import re
from collections.abc import Sequence
from pathlib import Path

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.gate import Gate, GateResult, check_all, parse_gate
from mlflow_edit.core.ledger import MAX_NOTE, Entry, Move, moves_of, standing
from mlflow_edit.errors import (
    GateError,
    InvalidInputError,
    LostRaceError,
    NotFoundError,
    VersionNotFound,
)
from mlflow_edit.operations.authorship import checked_author, checked_note
from mlflow_edit.operations.decision import decided
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.review import opinions_on
from mlflow_edit.registry.names import model_name, parse_ref
from mlflow_edit.registry.registry import MAX_RACES, Registry, VersionInfo

STAGES = {"staging": "Staging", "production": "Production", "archived": "Archived"}
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


def promote(
    ref: str,
    *,
    to: str,
    gate: str | Path | Gate | None = None,
    quorum: int | None = None,
    not_author: bool = False,
    if_current: str | None = None,
    stages: bool = False,
    note: str = "",
    author: str | None = None,
    registry: Registry | None = None,
) -> Promotion:
    """Point an alias at a version, if it meets the gates. Every move and refusal is recorded.

    The gate that stands on the model for the alias (see `protect`) must be met in any case.

    Args:
        ref: `NAME@REF`.
        to: the alias.
        gate: more thresholds, or a YAML file of them (see `core.gate.Gate`).
        quorum: how many reviewers must approve each change at least, whatever the gate says.
        not_author: whose author is not counted among them.
        if_current: move only if this version holds the alias now; `none` where nothing does.
        stages: also move MLflow's deprecated stage of the same name.
        note: why.
        author: who; None takes `MLEDIT_AUTHOR`, git's user or the account.
        registry: where; None takes MLflow's setting.

    Raises:
        GateError: a threshold is not met; carries the failing checks. The refusal is recorded. Or a
            server that enforces gates refused the move, which is then taken back in the ledger.
        LostRaceError: another version holds the alias than `if_current` says.
        InvalidInputError: no alias can have that name, or the gate is malformed.
    """
    checked_alias(to)
    if stages and to.lower() not in STAGES:
        raise InvalidInputError(f"there is no stage {to!r}", hint=f"Stages: {', '.join(STAGES)}")
    thresholds = gate if isinstance(gate, Gate) or gate is None else read_gate(Path(gate))
    if quorum is not None or not_author:
        thresholds = (thresholds or Gate()).asking(quorum=quorum, not_author=not_author)
    author, note = checked_author(author), checked_note(note)
    registry = open_registry(registry)
    info = registry.resolve(parse_ref(ref))
    standing_gate = registry.gates(info.name).get(to)
    gates = [one for one in (standing_gate, thresholds) if one is not None]

    def decide(entries: dict[int, Entry], facts: dict[str, str]) -> Move:
        holder = _current_holder(registry, info.name, to, entries)
        _check_current(registry, info.name, to, holder, if_current)
        result = _checked(registry, info, holder, gates, entries)
        refused = result is not None and not result.passed
        return Move(
            kind="refusal" if refused else "promotion",
            alias=to,
            to=info.digest,
            previous=holder.digest if holder else None,
            gate=result,
            thresholds=thresholds,
            **facts,
        )

    number, entry = decided(registry, info.name, decide, author=author, note=note)
    move = _as_move(entry)
    previous = _number(registry, info.name, move.previous)
    if move.kind == "refusal" and move.gate is not None:
        failures = move.gate.failures
        shown = "\n  ".join(f"{c.name}: {c.told}" for c in failures)
        raise GateError(
            f"{info.name}@{info.version} was not promoted to {to}: "
            f"{len(failures)} of {len(move.gate.checks)} checks failed\n  {shown}",
            failures=failures,
            hint=f"mledit show {info.name}@{info.version}; the refusal is on record.",
        )
    _carry_out(registry, info.name, move, author)
    if stages:
        if previous is not None and not _staged(registry, info.name, previous):
            registry.set_stage(info.name, previous, "Archived")
        registry.set_stage(info.name, info.version, STAGES[to.lower()])
    return _promotion(info, move, previous, number)


def rollback(
    name: str,
    alias: str,
    *,
    if_current: str | None = None,
    note: str = "",
    author: str | None = None,
    registry: Registry | None = None,
) -> Promotion:
    """Point an alias at the version that held it before the one that holds it now.

    Called again, it goes back one promotion more. `if_current` is that of `promote`.

    Raises:
        NotFoundError: nothing held the alias before.
        GateError: a server that enforces gates refused the move; it is taken back in the ledger.
    """
    checked_alias(alias)
    author, note = checked_author(author), checked_note(note)
    registry = open_registry(registry)
    name = model_name(name)

    def decide(entries: dict[int, Entry], facts: dict[str, str]) -> Move:
        stack = standing(moves_of(entries, alias))
        holder = _current_holder(registry, name, alias, entries)
        _check_current(registry, name, alias, holder, if_current)
        now = holder.digest if holder else None
        if now != (stack[-1] if stack else None):  # somebody moved it past us
            stack.append(now)
        there = {info.digest for info in registry.versions(name)}
        earlier = [digest for digest in stack[:-1] if digest in there and digest != now]
        if not earlier:
            raise NotFoundError(
                f"nothing held the alias {alias} of {name} before that is still there",
                hint=f"mledit log {name} --promotions shows every move.",
            )
        return Move(kind="rollback", alias=alias, to=earlier[-1], previous=now, **facts)

    number, entry = decided(registry, name, decide, author=author, note=note)
    move = _as_move(entry)
    _carry_out(registry, name, move, author)
    target = next(info for info in registry.versions(name) if info.digest == move.to)
    return _promotion(target, move, _number(registry, name, move.previous), number)


def _carry_out(registry: Registry, name: str, move: Move, author: str) -> None:
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
        number = _number(registry, name, wanted)
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


def holder_of(registry: Registry, name: str, alias: str) -> VersionInfo | None:
    """Return the version that an alias points at now."""
    return next((info for info in registry.versions(name) if alias in info.aliases), None)


def _current_holder(
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


def read_gate(path: Path) -> Gate:
    """Read a gate from a file.

    Raises:
        InvalidInputError: it cannot be read, or is malformed.
    """
    try:
        return parse_gate(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the gate {path} cannot be read: {error}") from error


def _check_current(
    registry: Registry, name: str, alias: str, holder: VersionInfo | None, expected: str | None
) -> None:
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


def _checked(
    registry: Registry,
    info: VersionInfo,
    holder: VersionInfo | None,
    gates: Sequence[Gate],
    entries: dict[int, Entry],
) -> GateResult | None:
    if not gates:
        return None
    card = registry.scorecard(info, registry.manifest(info))
    current = registry.scorecard(holder, registry.manifest(holder)) if holder else None
    asked = any(gate.approvals is not None for gate in gates)
    opinions = opinions_on(registry, info, holder, entries) if asked else ()
    return check_all(gates, card, current, opinions=opinions)


def _decided_holder(registry: Registry, name: str, alias: str) -> str | None:
    moves = moves_of(registry.ledger(name), alias)
    return moves[-1].to if moves else None


def _as_move(entry: Entry) -> Move:
    if not isinstance(entry, Move):
        raise TypeError(f"{type(entry).__name__} is no move")
    return entry


def _staged(registry: Registry, name: str, version: int) -> bool:
    """Tell whether a version still holds an alias that is named like a stage."""
    found = next((info for info in registry.versions(name) if info.version == version), None)
    return found is not None and any(alias.lower() in STAGES for alias in found.aliases)


def _number(registry: Registry, name: str, digest: str | None) -> int | None:
    found = (info.version for info in registry.versions(name) if info.digest == digest)
    return next(found, None)


def _promotion(info: VersionInfo, move: Move, previous: int | None, number: int) -> Promotion:
    return Promotion(
        name=info.name,
        alias=move.alias,
        version=info.version,
        digest=info.digest,
        previous=previous,
        gate=move.gate,
        number=number,
    )
