"""What an entry of a codebook may hold, and the digest that names it."""

import hashlib
import re
from typing import TYPE_CHECKING

import torch

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.errors import CorruptPatch, InvalidInputError

if TYPE_CHECKING:
    from mlflow_edit.patches.codebook import Codebook

FLOATS = (torch.float16, torch.float32)
_LABEL = re.compile(r"[0-9a-f]{64}")


def entry_digest(book: "Codebook", i: int) -> str:
    """Name one entry by its values, not by the float type that they are kept in."""
    sha = hashlib.sha256(
        canonical_json(
            [
                book.layer,
                book.stack,
                book.labels[i],
                book.edit_ids[i],
                int(book.key_tokens[i]),
                float(book.radii[i]),
            ]
        )
    )
    sha.update(book.keys[i].float().numpy().tobytes())
    sha.update(book.values[i].float().numpy().tobytes())
    return sha.hexdigest()


def check_entries(book: "Codebook") -> None:
    """Check all that a codebook is made of.

    Raises:
        CorruptPatch: shapes, dtypes or values that cannot be.
    """
    _check_shapes(book)
    _check_numbers(book)
    _check_names(book)


def _check_shapes(book: "Codebook") -> None:
    if book.keys.ndim != 2 or book.values.ndim != 2:
        raise CorruptPatch("keys and values must be matrices")
    if book.radii.ndim != 1 or book.key_tokens.ndim != 1:
        raise CorruptPatch("radii and key tokens must be vectors")
    parts = (book.labels, book.edit_ids, book.keys, book.values, book.radii, book.key_tokens)
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise CorruptPatch(f"the parts of the codebook differ in length: {lengths}")
    if book.keys.dtype not in FLOATS or book.values.dtype not in FLOATS:
        raise CorruptPatch(f"keys and values of {book.keys.dtype}, {book.values.dtype}")
    if book.radii.dtype != torch.float32 or book.key_tokens.dtype != torch.int64:
        raise CorruptPatch("radii must be float32 and key tokens int64")


def _check_numbers(book: "Codebook") -> None:
    for name in ("keys", "values", "radii"):
        if not torch.isfinite(getattr(book, name)).all():
            raise CorruptPatch(f"{name} hold NaN or infinity")
    if (book.radii < 0).any() or (book.key_tokens < 0).any():
        raise CorruptPatch("radii and key tokens cannot be negative")


def _check_names(book: "Codebook") -> None:
    names = (book.layer, book.stack, *book.labels, *book.edit_ids)
    if not all(isinstance(text, str) for text in names) or not book.layer:
        raise CorruptPatch("layer, stack, labels and edit ids must be text")
    if not all(_LABEL.fullmatch(label) for label in book.labels):
        raise CorruptPatch("a label is not a digest")
    try:
        canonical_json(list(names))
    except InvalidInputError as error:
        raise CorruptPatch(f"a name is malformed: {error}") from error
