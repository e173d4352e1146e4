"""What an entry of an encoder codebook may hold."""

import re
from typing import TYPE_CHECKING

import torch

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.errors import CorruptPatch, InvalidInputError

if TYPE_CHECKING:
    from mlflow_edit.patches.encoder_codebook import EncoderCodebook

FLOATS = (torch.float16, torch.float32)
MAX_SPAN = 64
LENGTH_SLACK = 1e-2  # of keys kept in float16 or bfloat16
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_encoder_entries(book: "EncoderCodebook") -> None:
    """Check all that an encoder codebook is made of.

    Raises:
        CorruptPatch: shapes, dtypes or values that cannot be.
    """
    _check_shapes(book)
    _check_numbers(book)
    _check_names(book)


def _check_shapes(book: "EncoderCodebook") -> None:
    if book.keys.ndim != 2 or book.values.ndim != 3:
        raise CorruptPatch("keys must be a matrix and values of three dimensions")
    if not (book.spans.ndim == book.radii.ndim == book.thresholds.ndim == 1):
        raise CorruptPatch("spans, radii and thresholds must be vectors")
    parts = (
        *(book.layers, book.prompts, book.subjects, book.labels, book.edit_ids),
        *(book.keys, book.values, book.spans, book.radii, book.thresholds),
    )
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise CorruptPatch(f"the parts of the codebook differ in length: {lengths}")
    if book.keys.dtype not in FLOATS or book.values.dtype not in FLOATS:
        raise CorruptPatch(f"keys and values of {book.keys.dtype}, {book.values.dtype}")
    if book.radii.dtype != torch.float32 or book.thresholds.dtype != torch.float32:
        raise CorruptPatch("radii and thresholds must be float32")
    if book.spans.dtype != torch.int64 or not 1 <= book.values.shape[1] <= MAX_SPAN:
        raise CorruptPatch("spans must be int64, and values have 1 to 64 rows an entry")


def _check_numbers(book: "EncoderCodebook") -> None:
    for name in ("keys", "values", "radii", "thresholds"):
        if not torch.isfinite(getattr(book, name)).all():
            raise CorruptPatch(f"{name} hold NaN or infinity")
    if ((book.keys.double().norm(dim=1) - 1).abs() > LENGTH_SLACK).any():
        raise CorruptPatch("keys must be of unit length")
    if (book.radii < 0).any() or ((book.thresholds < 0) | (book.thresholds > 1)).any():
        raise CorruptPatch("a radius is negative, or a threshold is no probability")
    if ((book.spans < 0) | (book.spans > book.values.shape[1])).any():
        raise CorruptPatch("a span is longer than the values")


def _check_names(book: "EncoderCodebook") -> None:
    names = (
        *(book.stack, book.encoder),
        *(*book.layers, *book.prompts, *book.subjects, *book.labels, *book.edit_ids),
    )
    if not all(isinstance(text, str) for text in names) or not all(book.layers):
        raise CorruptPatch("stack, encoder, layers, prompts, labels and edit ids must be text")
    if not all(_DIGEST.fullmatch(digest) for digest in (book.encoder, *book.labels)):
        raise CorruptPatch("the encoder or a label is not a digest")
    try:
        canonical_json(list(names))
    except InvalidInputError as error:
        raise CorruptPatch(f"a name is malformed: {error}") from error
