"""Write decisions into the ledger of a model."""

import secrets
from collections.abc import Callable
from typing import Any

from mlflow_edit.core.ledger import Entry
from mlflow_edit.operations.init import utc_now
from mlflow_edit.registry.registry import Registry


def decided(
    registry: Registry,
    name: str,
    decide: Callable[[dict[int, Entry], dict[str, Any]], Entry],
    *,
    author: str,
    note: str = "",
) -> tuple[int, Entry]:
    """Append what `decide` makes of the ledger so far (see `Registry.record`).

    Args:
        registry: where.
        name: the model.
        decide: is given the entries so far, and the fields that every entry has.
        author: who.
        note: why.
    """

    def entry(entries: dict[int, Entry]) -> Entry:
        facts = {"at": utc_now(), "who": author, "note": note, "nonce": secrets.token_hex(8)}
        return decide(entries, facts)

    return registry.record(name, entry)
