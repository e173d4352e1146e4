"""Merges that stopped at conflicts, as they stand in the ledger of a model."""

from contextlib import suppress

from mlflow_edit.core.ledger import Entry, MergeClosed, MergeOpened, open_merge
from mlflow_edit.errors import ConflictError, MlflowEditError, NotFoundError, VersionNotFound
from mlflow_edit.operations.decision import decided
from mlflow_edit.registry.names import model_name
from mlflow_edit.registry.registry import Registry, VersionInfo


def opened_merge(registry: Registry, name: str) -> tuple[int, MergeOpened]:
    """Return the merge of a model that stopped at conflicts, with its number.

    Raises:
        NotFoundError: there is none.
    """
    entries = registry.ledger(model_name(name))
    number = open_merge(entries)
    opened = entries.get(number) if number is not None else None
    if number is None or not isinstance(opened, MergeOpened):
        raise NotFoundError(f"no merge of {name} is open", hint=f"mledit merge {name}@A {name}@B")
    return number, opened


def sides_of(registry: Registry, name: str, opened: MergeOpened) -> tuple[VersionInfo, VersionInfo]:
    """Return the two versions of an open merge.

    Raises:
        VersionNotFound: one was deleted since.
    """
    by_digest = {info.digest: info for info in registry.versions(name)}
    for digest in (opened.ours, opened.theirs):
        if digest not in by_digest:
            raise VersionNotFound(
                f"version {digest[:12]} of the open merge of {name} is gone",
                hint=f"mledit merge {name} --abort",
            )
    return by_digest[opened.ours], by_digest[opened.theirs]


def note_open(
    registry: Registry, ours: VersionInfo, theirs: VersionInfo, author: str, message: str
) -> None:
    """Note in the ledger that this merge waits for resolutions, unless it does already."""
    name, wanted = ours.name, (ours.digest, theirs.digest)
    if _open_pair(registry.ledger(name)) == wanted:
        return

    def decide(entries: dict[int, Entry], facts: dict[str, str]) -> MergeOpened:
        if _open_pair(entries) is not None:
            raise ConflictError(
                f"another merge of {name} is open",
                hint=f"mledit merge {name} --continue or --abort",
            )
        return MergeOpened(
            kind="merge-opened", ours=wanted[0], theirs=wanted[1], message=message[:500], **facts
        )

    decided(registry, name, decide, author=author)


def _open_pair(entries: dict[int, Entry]) -> tuple[str, str] | None:
    number = open_merge(entries)
    opened = entries.get(number or 0)
    return (opened.ours, opened.theirs) if isinstance(opened, MergeOpened) else None


def close_if_open(
    registry: Registry, ours: VersionInfo, theirs: VersionInfo, author: str, version: str
) -> None:
    """Close the merge in the ledger that this version finishes; it is registered whatever comes."""
    with suppress(MlflowEditError):
        entries = registry.ledger(ours.name)
        number = open_merge(entries)
        if number and set(_open_pair(entries) or ()) == {
            ours.digest,
            theirs.digest,
        }:
            close_merge(registry, ours.name, number, author, version)


def close_merge(
    registry: Registry, name: str, number: int, author: str, version: str | None
) -> None:
    """Note in the ledger that a merge was finished, or given up (`version` is None)."""
    decided(
        registry,
        name,
        lambda entries, facts: MergeClosed(
            kind="merge-closed", merge=number, version=version, **facts
        ),
        author=author,
    )
