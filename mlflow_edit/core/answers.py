"""When an answer counts as right, and when as unchanged."""

import re
import unicodedata
from collections.abc import Iterable

_POINT = re.compile(r"(?<=[0-9])[.,](?=[0-9])")  # 5.5 and 1,000 are one word each


def words(text: str) -> list[str]:
    """Split an answer into its normalised words: NFKC, case folded, no punctuation.

    A word keeps its combining marks (without them most scripts of India lose their vowels), and a
    number its decimal point.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    points = {match.start() for match in _POINT.finditer(folded)}
    kept = (c if i in points or _in_word(c) else " " for i, c in enumerate(folded))
    return "".join(kept).split()


def _in_word(char: str) -> bool:
    return char.isalnum() or char == "_" or unicodedata.category(char).startswith("M")


def is_hit(answer: str, targets: Iterable[str]) -> bool:
    """Tell whether the normalised answer begins with the whole words of one of the targets."""
    return any(_begins_with(answer, target) for target in targets)


def _begins_with(answer: str, target: str) -> bool:
    wanted = words(target)
    if not wanted:  # a target of signs only has no words to compare
        return bool(target.strip()) and answer.strip().startswith(target.strip())
    return words(answer)[: len(wanted)] == wanted


def is_unchanged(answer: str, base_answer: str) -> bool:
    """Tell whether two answers are the same but for surrounding white space."""
    return answer.strip() == base_answer.strip()
