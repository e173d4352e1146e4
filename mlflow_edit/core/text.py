"""Text as it is kept: one Unicode form, and nothing that a store or a terminal would choke on."""

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

MAX_TEXT = 200_000


def nfc(value: Any) -> Any:
    """Bring text to Unicode form NFC, and leave everything else to the validator."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def printable(text: str) -> str:
    """Escape control characters and lone surrogates, so that text can be shown anywhere."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, one: str, many: str = "") -> str:
    """Say a number of things: `1 edit`, `1,200 edits`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def sure(match: float) -> str:
    """Say a probability in per cent; one that is not 1 is never said to be 100 %."""
    return f"{min(99, round(100 * match)) if match < 1 else 100} %"


def how_near(distance: float, radius: float, match: float | None) -> str:
    """Say how near a question came to the edit that answers it, by what decided of it."""
    if match is None:
        return f"distance {distance:.2f} within radius {radius:.2f}"
    return "asked in its own words" if distance == 0 else f"asks the same ({sure(match)} sure)"


def _readable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is not valid Unicode (a lone surrogate)") from error
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    return text


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


NORMAL = BeforeValidator(nfc)
READABLE = AfterValidator(_readable)

Remark = Annotated[str, Field(max_length=MAX_TEXT), NORMAL, READABLE]
"""Text that may be empty."""

Text = Annotated[str, Field(max_length=MAX_TEXT), NORMAL, READABLE, AfterValidator(_not_empty)]
"""Text that says something."""

EditId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\s\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+$",
    ),
    NORMAL,
]
"""The id of an edit: one word, no control characters."""
