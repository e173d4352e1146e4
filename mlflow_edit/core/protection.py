"""When a version may hold a protected alias: the rule of the registry store that enforces gates."""

from collections.abc import Callable, Mapping

from mlflow_edit.core.gate import GateResult
from mlflow_edit.core.ledger import Entry, moves_of

GATE_TAG = "mledit.gate."  # with an alias behind it: a tag of the model, whose value is the gate
HELD_TAG = "mledit.held."  # with an alias behind it: a tag of a version that has held the alias
MAX_GATE_TAG = 4000  # characters: a tag of a model holds 5,000
MAX_PROTECTED = 200  # characters of an alias: the key of a tag holds 250


def gate_texts(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of the gates among the tags of a model, by alias."""
    found = {key: text for key, text in tags.items() if key.startswith(GATE_TAG)}
    return {key.removeprefix(GATE_TAG): text for key, text in found.items()}


def objection(
    alias: str,
    version: str,
    *,
    entries: Mapping[int, Entry],
    held: bool,
    judge: Callable[[], GateResult],
) -> str | None:
    """Say why a version may not hold a protected alias, or return None where it may.

    Args:
        alias: the alias.
        version: the digest of the version that it is to point at.
        entries: the ledger.
        held: whether the version has held the alias before.
        judge: holds the version's scorecard against the gate.
    """
    moves = moves_of(dict(entries), alias)
    if not moves or moves[-1].to != version:
        return "the last decision in the ledger is another one"
    if moves[-1].kind == "rollback":
        return None if held else "it never held the alias, so it cannot be rolled back to"
    said = [f"{check.name}: {check.told}" for check in judge().failures]
    return "; ".join(said) or None
