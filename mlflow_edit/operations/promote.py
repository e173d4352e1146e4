"""Point an alias at a version, past a gate."""

from collections.abc import Sequence
from pathlib import Path

from mlflow_edit.core.gate import Gate, GateResult, check_all, parse_gate
from mlflow_edit.core.ledger import Entry, Move
from mlflow_edit.errors import (
    GateError,
    InvalidInputError,
)
from mlflow_edit.operations.aliases import (
    Promotion,
    carry_out,
    check_holder,
    checked_alias,
    current_holder,
    move_in,
    number_of,
    promotion,
)
from mlflow_edit.operations.authorship import checked_author, checked_note
from mlflow_edit.operations.decision import decided
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.review import opinions_on
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo

STAGES = {"staging": "Staging", "production": "Production", "archived": "Archived"}


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
        holder = current_holder(registry, info.name, to, entries)
        check_holder(registry, info.name, to, holder, if_current)
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
    move = move_in(entry)
    previous = number_of(registry, info.name, move.previous)
    if move.kind == "refusal" and move.gate is not None:
        raise _refused(info, to, move.gate)
    carry_out(registry, info.name, move, author)
    if stages:
        if previous is not None and not _staged(registry, info.name, previous):
            registry.set_stage(info.name, previous, "Archived")
        registry.set_stage(info.name, info.version, STAGES[to.lower()])
    return promotion(info, move, previous, number)


def _refused(info: VersionInfo, alias: str, gate: GateResult) -> GateError:
    shown = "\n  ".join(f"{check.name}: {check.told}" for check in gate.failures)
    return GateError(
        f"{info.name}@{info.version} was not promoted to {alias}: "
        f"{len(gate.failures)} of {len(gate.checks)} checks failed\n  {shown}",
        failures=gate.failures,
        hint=f"mledit show {info.name}@{info.version}; the refusal is on record.",
    )


def read_gate(path: Path) -> Gate:
    """Read a gate from a file.

    Raises:
        InvalidInputError: it cannot be read, or is malformed.
    """
    try:
        return parse_gate(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the gate {path} cannot be read: {error}") from error


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


def _staged(registry: Registry, name: str, version: int) -> bool:
    """Tell whether a version still holds an alias that is named like a stage."""
    found = next((info for info in registry.versions(name) if info.version == version), None)
    return found is not None and any(alias.lower() in STAGES for alias in found.aliases)
