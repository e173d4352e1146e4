"""The ledger of a model: every decision about its versions, in order, never changed."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.gate import Gate, GateResult
from mlflow_edit.core.manifest import Digest, Moment
from mlflow_edit.core.text import NORMAL, READABLE
from mlflow_edit.errors import IntegrityError, InvalidInputError

MAX_NOTE = 1000
MAX_ENTRY = 5500  # characters: a parameter of an MLflow run holds 6,000

Who = Annotated[str, Field(max_length=500), NORMAL, READABLE]
Note = Annotated[str, Field(max_length=MAX_NOTE), NORMAL, READABLE]


class _Entry(FrozenModel):
    """What every entry says: when, who, why; `nonce` keeps equal decisions apart."""

    at: Moment
    who: Who
    note: Note = ""
    nonce: Annotated[str, Field(min_length=8, max_length=64)]


class Move(_Entry):
    """An alias was moved to a version, or taken back, or the move was refused by a gate.

    `previous` and `to` are digests of versions; None is no version. `thresholds` is the gate,
    `gate` what came of it.
    """

    kind: Literal["promotion", "rollback", "refusal"]
    alias: Annotated[str, Field(min_length=1, max_length=255)]
    to: Digest | None
    previous: Digest | None = None
    gate: GateResult | None = None
    thresholds: Gate | None = None


class Verdict(_Entry):
    """A reviewer approved or rejected a version."""

    kind: Literal["approved", "rejected"]
    version: Digest


class MergeOpened(_Entry):
    """A merge stopped at conflicts; its number is that of this entry."""

    kind: Literal["merge-opened"]
    ours: Digest
    theirs: Digest
    message: Note = ""


class MergeResolved(_Entry):
    """One conflict of an open merge was resolved; the last word counts."""

    kind: Literal["merge-resolved"]
    merge: int
    conflict: Annotated[str, Field(max_length=40)]
    choice: Literal["ours", "theirs", "drop", "both", "accept"]


class MergeClosed(_Entry):
    """A merge was finished (`version`) or given up (None)."""

    kind: Literal["merge-closed"]
    merge: int
    version: Digest | None = None


Entry = Move | Verdict | MergeOpened | MergeResolved | MergeClosed

_READER: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def entry_text(entry: Entry) -> str:
    """Write an entry as canonical JSON.

    Raises:
        InvalidInputError: it is too long to be kept.
    """
    text = canonical_json({"kind": entry.kind, **entry.written()}).decode()
    if len(text) > MAX_ENTRY:
        raise InvalidInputError(
            f"an entry of the ledger has {len(text):,} characters; {MAX_ENTRY:,} are kept",
            hint="Shorten the note, or the gate.",
        )
    return text


def read_entry(text: str, *, number: int) -> Entry:
    """Read an entry. Law: `read_entry(entry_text(e), number=n) == e`.

    Raises:
        IntegrityError: it is malformed.
    """
    try:
        fields: Any = json.loads(text)
        return _READER.validate_json(canonical_json(fields))
    except (ValidationError, ValueError, RecursionError, InvalidInputError) as error:
        raise IntegrityError(f"entry {number} of the ledger is malformed: {error}") from error


def moves_of(entries: dict[int, Entry], alias: str) -> list[Move]:
    """Return the moves of an alias that were made, oldest first."""
    return [
        entry
        for _, entry in sorted(entries.items())
        if isinstance(entry, Move) and entry.alias == alias and entry.kind != "refusal"
    ]


def gate_of(entries: dict[int, Entry], alias: str) -> Gate | None:
    """Return the gate that an alias was last moved past, or refused by."""
    found = [
        entry.thresholds
        for _, entry in sorted(entries.items())
        if isinstance(entry, Move) and entry.alias == alias and entry.thresholds is not None
    ]
    return found[-1] if found else None


def standing(moves: list[Move]) -> list[str | None]:
    """Replay moves into the stack of versions that held the alias: the last one holds it now.

    A promotion puts a version on top (and, where somebody had moved the alias past us, what it
    found there); a rollback takes it off again.
    """
    stack: list[str | None] = []
    for move in moves:
        if move.previous != (stack[-1] if stack else None):
            stack.append(move.previous)
        if move.kind == "promotion":
            stack += [move.to] if not stack or stack[-1] != move.to else []
            continue
        while stack and stack[-1] != move.to:
            stack.pop()
    return stack


def verdicts_on(entries: dict[int, Entry], version: str) -> dict[str, bool]:
    """Return each reviewer's last word on a version: whether it was yes."""
    return {
        entry.who: entry.kind == "approved"
        for _, entry in sorted(entries.items())
        if isinstance(entry, Verdict) and entry.version == version
    }


def open_merge(entries: dict[int, Entry]) -> int | None:
    """Return the number of the merge that is open, if one is."""
    closed = {entry.merge for entry in entries.values() if isinstance(entry, MergeClosed)}
    waiting = [n for n, entry in entries.items() if isinstance(entry, MergeOpened)]
    return next((n for n in sorted(waiting) if n not in closed), None)


def resolutions_of(entries: dict[int, Entry], merge: int) -> dict[str, str]:
    """Return the choice for each conflict of a merge that was resolved by hand."""
    return {
        entry.conflict: entry.choice
        for _, entry in sorted(entries.items())
        if isinstance(entry, MergeResolved) and entry.merge == merge
    }
