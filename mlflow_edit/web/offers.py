"""What may be done with a version, as `actions.html` offers it below the version's own page."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_edit.core.ledger import Entry, Move, Verdict, moves_of
from mlflow_edit.registry.registry import VersionInfo
from mlflow_edit.web.asked import Asked

USUAL = ("candidate", "staging", "production")
SHOWN_VERSIONS = 50


@dataclass(frozen=True, slots=True)
class Holding:
    """An alias that the ledger knows of, and the version that it points at."""

    alias: str
    version: int


@dataclass(frozen=True, slots=True)
class Offers:
    """What the forms need to know. `said` is the ledger's word on what was just done."""

    info: VersionInfo
    may_update: bool
    holdings: tuple[Holding, ...]
    aliases: tuple[str, ...]
    others: tuple[VersionInfo, ...]
    said: str | None
    n_models: int


def offers(asked: Asked, info: VersionInfo) -> Offers:
    """Read what the forms of a version need to know."""
    entries = asked.registry.ledger(info.name)
    versions = asked.versions
    held = {alias: one.version for one in versions for alias in one.aliases}
    others = [one for one in reversed(versions) if one.digest != info.digest]
    return Offers(
        info=info,
        may_update=asked.may_update(),
        holdings=tuple(Holding(a, n) for a, n in sorted(held.items()) if moves_of(entries, a)),
        aliases=tuple(sorted({*held, *USUAL})),
        others=tuple(others[:SHOWN_VERSIONS]),
        said=_said(versions, entries, asked.parameter("entry", "")),
        n_models=asked.jobs.n_models,
    )


def _said(versions: Sequence[VersionInfo], entries: dict[int, Entry], number: str) -> str | None:
    """Say what an entry of the ledger recorded: what was done is told from there, not from a link.

    An address can only choose among entries that there are.
    """
    entry = next((one for n, one in entries.items() if str(n) == number), None)
    numbers = {one.digest: one.version for one in versions}
    if isinstance(entry, Verdict):
        why = f": {entry.note}" if entry.note else "."
        return f"Version {numbers.get(entry.version, '?')} was {entry.kind} by {entry.who}{why}"
    if isinstance(entry, Move) and entry.kind != "refusal":
        now, before = numbers.get(entry.to or ""), numbers.get(entry.previous or "")
        held = f", before that at version {before}" if before else ""
        back = " again" if entry.kind == "rollback" else ""
        return f"{entry.alias} points at version {now}{back}{held}; moved by {entry.who}."
    return None
