"""Compose the patches of a version: a pure function of the set of its batches."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlflow_edit.errors import UnsupportedFormat
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.patch import Patch
from mlflow_edit.patches.weights import Weights

AnyCodebook = Codebook | EncoderCodebook


@dataclass(frozen=True, slots=True)
class Part:
    """One batch's patch, and the ids of its edits that the version leaves out."""

    batch: str
    patch: Patch
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Composition:
    """The codebooks to attach, which batch each of their entries came from, and the weights.

    Declared order: the weights are in force below the codebooks, which see what they compute.
    """

    patches: tuple[AnyCodebook, ...] = ()
    batch_of: dict[str, str] = field(default_factory=dict)
    weights: Weights | None = None


def compose(parts: Sequence[Part]) -> Composition:
    """Unite what is of one form and layer, or of one encoder, and gather deltas, in whatever order.

    A delta is in force whole, unless all of its edits are left out.

    Raises:
        ShapeMismatch: codebooks of one layer, or of one encoder, differ in width.
        UnsupportedFormat: a patch is of a kind that is not known here.
    """
    by_layer: dict[tuple[str, str, str], list[Codebook]] = defaultdict(list)
    by_encoder: dict[tuple[str, str], list[EncoderCodebook]] = defaultdict(list)
    batch_of: dict[str, str] = {}
    deltas: list[tuple[str, Delta]] = []
    for part in sorted(parts, key=lambda part: part.batch, reverse=True):
        if isinstance(part.patch, Delta):
            used = part.patch.edit_ids_used()
            deltas += [(part.batch, part.patch)] if not used or used - part.excluded else []
            continue
        if not isinstance(part.patch, (Codebook, EncoderCodebook)):
            raise UnsupportedFormat(
                f"batch {part.batch[:12]} is a {part.patch.kind}, which this release cannot attach",
                hint="Install a newer release of mlflow-edit.",
            )
        book = part.patch.without_edits(part.excluded) if part.excluded else part.patch
        if isinstance(book, Codebook):
            by_layer[book.place].append(book)
        else:
            by_encoder[book.encoder, book.stack].append(book)
        batch_of.update(dict.fromkeys(book.entry_digests, part.batch))
    united: list[AnyCodebook] = [one[0].union(*one[1:]) for _, one in sorted(by_layer.items())]
    united += [books[0].union(*books[1:]) for _, books in sorted(by_encoder.items())]
    weights = Weights(deltas) if deltas else None
    return Composition(tuple(book for book in united if len(book)), batch_of, weights)
