"""Text as a reviewer can trust it: nothing invisible, nothing endless, changed words marked."""

import difflib
import re
import unicodedata
from typing import NamedTuple

from markupsafe import Markup

CONTEXT_CHARS = 80
KEPT_WORDS = 7
_WORD = re.compile(r"\S+\s*")
_JOINERS = "\u200c\u200d"


class Span(NamedTuple):
    """A stretch of an answer; `changed` where the other answer has different words."""

    text: str
    changed: bool


def visible(text: object) -> object:
    """Write characters that cannot be seen, or that reorder others, as `‹U+202E›`.

    Joiners inside words of scripts that need them stay. Anything but plain text is returned as is.
    """
    if (
        not isinstance(text, str)
        or isinstance(text, Markup)
        or text.isascii()
        and text.isprintable()
    ):
        return text
    return "".join(_visible(char, text[i - 1 : i]) for i, char in enumerate(text))


def _visible(char: str, before: str) -> str:
    if char in "\n\t" or (char in _JOINERS and before and not before.isascii()):
        return char
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"‹U+{ord(char):04X}›"
    return char


def clip(text: str, limit: int) -> str:
    """Cut a text to about `limit` characters, saying how many are left out."""
    left_out = len(text) - limit
    return text if left_out <= 24 else f"{text[:limit]}… (+{left_out:,} characters)"


def changed_words(before: str, after: str, limit: int) -> tuple[list[Span], list[Span]]:
    """Mark the words in which two answers differ, each cut to about `limit` characters.

    A long common beginning is left out, and so are long stretches of equal words in between.
    """
    before, after = _from_first_difference(before.strip(), after.strip())
    old, new = _WORD.findall(clip(before, limit)), _WORD.findall(clip(after, limit))
    matcher = difflib.SequenceMatcher(
        None, [word.strip() for word in old], [word.strip() for word in new], autojunk=False
    )
    spans: tuple[list[Span], list[Span]] = ([], [])
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        for side, words in zip(spans, (old[old_from:old_to], new[new_from:new_to]), strict=True):
            if words and tag == "equal":
                side.append(Span(_shortened(words), False))
            elif words:
                text = "".join(words)
                marked = text.rstrip()
                side.extend([Span(marked, True), Span(text[len(marked) :], False)])
    return [s for s in spans[0] if s.text], [s for s in spans[1] if s.text]


def _from_first_difference(before: str, after: str) -> tuple[str, str]:
    pairs = enumerate(zip(before, after, strict=False))
    same = next((i for i, (old, new) in pairs if old != new), min(len(before), len(after)))
    if before == after or same <= 2 * CONTEXT_CHARS:
        return before, after
    start = before.find(" ", same - CONTEXT_CHARS, same) + 1 or same - CONTEXT_CHARS
    return "… " + before[start:], "… " + after[start:]


def _shortened(words: list[str]) -> str:
    if len(words) > 3 * KEPT_WORDS:
        return "".join([*words[:KEPT_WORDS], "… ", *words[-KEPT_WORDS:]])
    return "".join(words)
