"""When an answer counts as right, and when as unchanged."""

import re
import unicodedata
from collections.abc import Iterable

_NOT_WORD = re.compile(r"[^\w]+")


def words(text: str) -> list[str]:
    """Split an answer into its normalised words: NFKC, case folded, no punctuation."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split()


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
