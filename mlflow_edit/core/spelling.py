"""Read misspelt words as the words that an edit has."""

import re
from collections.abc import Callable

from mlflow_edit.core.folding import folded

SHORTEST = 4  # letters; shorter words are too much alike
_WORD = re.compile(r"[^\W\d_]+")


def respelled(text: str, like: str, is_known: Callable[[str], bool]) -> str:
    """Replace each unknown word of `text` by the word of `like` that it is a misspelling of.

    A misspelling has one letter more, fewer or other, or two neighbours swapped, behind the same
    first letter. Words that are known, hold digits or are short stay as they are.

    Args:
        text: what a user says.
        like: what the words are compared with.
        is_known: tells whether a folded word is a common one.
    """
    wanted = {folded(word): word for word in _WORD.findall(like) if len(word) >= SHORTEST}

    def one(found: re.Match[str]) -> str:
        word = folded(found[0])
        if len(word) < SHORTEST or (is_known(word) and word not in wanted):
            return found[0]
        if word in wanted:
            right = wanted[word]
            return found[0] if found[0].casefold() == right.casefold() else right
        return next((right for key, right in wanted.items() if _is_slip(word, key)), found[0])

    return _WORD.sub(one, text) if wanted else text


def _is_slip(word: str, right: str) -> bool:
    if word[0] != right[0] or abs(len(word) - len(right)) > 1:
        return False
    shortest = min(len(word), len(right))
    start = next((i for i in range(shortest) if word[i] != right[i]), shortest)
    left = shortest - start
    end = next((i for i in range(left) if word[-1 - i] != right[-1 - i]), left)
    one, other = word[start : len(word) - end], right[start : len(right) - end]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])
