"""Read misspelt words as the words that an edit has."""

import re
import unicodedata
from collections.abc import Callable
from difflib import get_close_matches

ALIKE = 0.8  # of difflib's ratio: one or two letters of a word
SHORTEST = 4  # letters; shorter words are too much alike
_WORD = re.compile(r"[^\W\d_]+")


def respelled(text: str, like: str, is_known: Callable[[str], bool]) -> str:
    """Replace each unknown word of `text` by the word of `like` that it is a misspelling of.

    Words that are known, hold digits or are short stay as they are, as do those that `like` has.

    Args:
        text: what a user says.
        like: what the words are compared with.
        is_known: tells whether a folded word is a common one.
    """
    wanted = {_folded(word): word for word in _WORD.findall(like) if len(word) >= SHORTEST}

    def one(found: re.Match[str]) -> str:
        word = found[0]
        folded = _folded(word)
        if len(word) < SHORTEST or folded in wanted or is_known(folded):
            return word
        near = get_close_matches(folded, wanted, n=1, cutoff=ALIKE)
        return wanted[near[0]] if near else word

    return _WORD.sub(one, text) if wanted else text


def _folded(word: str) -> str:
    """Fold case, and leave accents out."""
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))
