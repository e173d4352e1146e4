"""Find the batches and edits that a user names."""

from collections.abc import Sequence

from mlflow_edit.core.content import Content, Pair
from mlflow_edit.errors import EditNotFound
from mlflow_edit.registry.registry import MIN_PREFIX, Registry

SHOWN = 8


def find_batches(content: Content, wanted: Sequence[str]) -> list[str]:
    """Find batches by the beginnings of their digests.

    Raises:
        EditNotFound: none, or several, begin like that.
    """
    found = [_batch(content, text) for text in wanted]
    missing = [text for text, digest in zip(wanted, found, strict=True) if digest is None]
    if missing:
        known = ", ".join(digest[:12] for digest in sorted(content.batches)[:SHOWN])
        raise EditNotFound(
            f"no batch {missing[0]!r} in this version", hint=f"Its batches are {known or 'none'}."
        )
    return [digest for digest in found if digest is not None]


def find_targets(
    registry: Registry, content: Content, wanted: Sequence[str]
) -> tuple[list[str], list[Pair]]:
    """Find batches by digest, and edits in force by id or by `BATCH:ID`.

    Raises:
        EditNotFound: there is no such batch or edit, or there are several.
    """
    batches: list[str] = []
    edits: list[Pair] = []
    for text in wanted:
        digest = _batch(content, text)
        prefix, colon, edit_id = text.partition(":")
        holder = _batch(content, prefix) if colon else None
        if digest is not None:
            batches.append(digest)
        elif holder is not None:
            edits.append(_edit(registry, content, edit_id, among=[holder]))
        else:
            edits.append(_edit(registry, content, text, among=sorted(content.batches)))
    return batches, edits


def _batch(content: Content, text: str) -> str | None:
    if len(text) < MIN_PREFIX or not all(sign in "0123456789abcdef" for sign in text.lower()):
        return None
    found = [digest for digest in content.batches if digest.startswith(text.lower())]
    if len(found) > 1:
        raise EditNotFound(f"{len(found)} batches begin with {text!r}", hint="Write more digits.")
    return found[0] if found else None


def _edit(registry: Registry, content: Content, edit_id: str, *, among: Sequence[str]) -> Pair:
    out = content.excluded()
    known: list[str] = []
    found: list[Pair] = []
    for batch in among:
        ids = [edit.id for edit in registry.edits(content.batches[batch])]
        ids = [one for one in ids if (batch, one) not in out]
        known += ids
        found += [(batch, one) for one in ids if one == edit_id]
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(f"{batch[:12]}:{edit_id}" for batch, _ in found)
        raise EditNotFound(
            f"{len(found)} batches have an edit {edit_id!r}", hint=f"Write one of {choices}."
        )
    shown = ", ".join(known[:SHOWN]) + (" …" if len(known) > SHOWN else "")
    raise EditNotFound(
        f"no batch and no edit in force {edit_id!r} in this version",
        hint=f"Its edits are {shown or 'none'}.",
    )
