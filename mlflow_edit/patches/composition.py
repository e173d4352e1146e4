"""Compose the patches of a version: a pure function of the set of its batches."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlflow_edit.errors import UnsupportedFormat
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.patch import Patch


@dataclass(frozen=True, slots=True)
class Part:
    """One batch's patch, and the ids of its edits that the version leaves out."""

    batch: str
    patch: Patch
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Composition:
    """The patches to attach, and which batch each entry of a codebook came from."""

    patches: tuple[Codebook, ...] = ()
    batch_of: dict[str, str] = field(default_factory=dict)


def compose(parts: Sequence[Part]) -> Composition:
    """Unite the codebooks of each layer. The order of `parts` does not matter.

    Raises:
        ShapeMismatch: codebooks of one layer differ in width.
        UnsupportedFormat: a patch is of a kind that is not known here.
    """
    by_layer: dict[tuple[str, str], list[Codebook]] = defaultdict(list)
    batch_of: dict[str, str] = {}
    for part in sorted(parts, key=lambda part: part.batch, reverse=True):
        if not isinstance(part.patch, Codebook):
            raise UnsupportedFormat(
                f"batch {part.batch[:12]} is a {part.patch.kind}, which this release cannot attach",
                hint="Install a newer release of mlflow-edit.",
            )
        book = part.patch.without_edits(part.excluded) if part.excluded else part.patch
        by_layer[book.layer, book.stack].append(book)
        batch_of.update(dict.fromkeys(book.entry_digests, part.batch))
    united = (books[0].union(*books[1:]) for _, books in sorted(by_layer.items()))
    return Composition(tuple(book for book in united if len(book)), batch_of)
