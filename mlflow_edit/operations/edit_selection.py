"""Find the batches and edits that a user names."""

from collections.abc import Sequence

from mlflow_edit.core.content import Content, Pair
from mlflow_edit.core.text import nfc
from mlflow_edit.errors import EditNotFound
from mlflow_edit.registry.registry import MIN_PREFIX, Registry

SHOWN = 8
UNMISTAKABLE = 12  # digits of a digest that no id of an edit is like


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
    for text in map(str, map(nfc, wanted)):
        digest = _batch(content, text)
        if digest is not None and len(text) >= UNMISTAKABLE:
            batches.append(digest)
            continue
        prefix, colon, edit_id = text.partition(":")
        holder = _batch(content, prefix) if colon else None
        named = _edits(registry, content, text)
        inside = [p for p in _edits(registry, content, edit_id) if p[0] == holder] if colon else []
        readings = [*([digest] if digest else []), *named, *inside]
        if len(readings) > 1:
            choices = ", ".join(f"{b[:12]}:{e}" for b, e in [*named, *inside])
            raise EditNotFound(
                f"{text!r} may be a batch or an edit, or names {len(readings)} of them",
                hint=f"Write more digits of a batch, or one of {choices}.",
            )
        if digest is not None:
            batches.append(digest)
        elif named or inside:
            edits += [*named, *inside]
        else:
            raise _unknown(registry, content, text)
    return batches, edits


def _batch(content: Content, text: str) -> str | None:
    if len(text) < MIN_PREFIX or not all(sign in "0123456789abcdef" for sign in text.lower()):
        return None
    found = [digest for digest in content.batches if digest.startswith(text.lower())]
    if len(found) > 1:
        raise EditNotFound(f"{len(found)} batches begin with {text!r}", hint="Write more digits.")
    return found[0] if found else None


def _edits(registry: Registry, content: Content, edit_id: str) -> list[Pair]:
    """Find the edits in force that have an id."""
    return [pair for pair in _in_force(registry, content) if pair[1] == edit_id]


def _in_force(registry: Registry, content: Content) -> list[Pair]:
    out = content.excluded()
    return [
        (batch, edit.id)
        for batch in sorted(content.batches)
        for edit in registry.edits(content.batches[batch])
        if (batch, edit.id) not in out
    ]


def _unknown(registry: Registry, content: Content, text: str) -> EditNotFound:
    known = [edit_id for _, edit_id in _in_force(registry, content)]
    shown = ", ".join(known[:SHOWN]) + (" …" if len(known) > SHOWN else "")
    return EditNotFound(
        f"no batch and no edit in force {text!r} in this version",
        hint=f"Its edits are {shown or 'none'}.",
    )
