"""What a question is about: names in a text, and how much of a name another text has."""

import re

_WORD = re.compile(r"[\w][\w'’.-]*")
_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b")
_NOT_WORD = re.compile(r"[^\w]+")
_LINKS = frozenset({"of", "the", "de", "la", "von", "van", "and"})
_OPENERS = {
    *("who", "what", "where", "when", "which", "how", "whose", "why", "name", "list", "give"),
    *("a", "an", "the", "in", "on", "at", "of", "for", "to", "by", "from", "can", "could"),
    *("is", "was", "are", "were", "do", "does", "did", "tell", "please"),
}
N_FEATURES = 6


def found_subject(prompt: str) -> str:
    """Return the longest run of capitalised words and numbers in a question, or nothing."""
    words = _WORD.findall(prompt)
    best: list[str] = []
    current: list[str] = []
    for i, word in enumerate(words):
        named = word[:1].isupper() or word[:1].isdigit()
        if i == 0 and word.casefold() in _OPENERS:
            named = False
        follows = i + 1 < len(words) and words[i + 1][:1].isupper()
        if named or (current and word in _LINKS and follows):
            current.append(word)
            continue
        best, current = _longer(best, current), []
    return " ".join(_longer(best, current))


def overlap(subject: str, text: str) -> float:
    """Return the share of a name's trigrams that a text has, in [0, 1]."""
    wanted = _trigrams(subject)
    return len(wanted & _trigrams(text)) / max(1, len(wanted))


def subject_features(subject: str, text: str, earlier: str) -> tuple[float, ...]:
    """Describe how far what a user says, and said before, is about a subject: 6 numbers."""
    if not subject:
        return (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    share = overlap(subject, f"{text} {earlier}")
    whole, little = float(share > 0.99), float(share < 0.45)
    return (share, share * share, whole, little, overlap(subject, text), 0.0)


def other_number(prompt: str, text: str) -> bool:
    """Tell whether both texts hold numbers, and none in common: another year, season or edition."""
    wanted, said = set(_NUMBER.findall(prompt)), set(_NUMBER.findall(text))
    return bool(wanted) and bool(said) and not wanted & said


def _longer(one: list[str], other: list[str]) -> list[str]:
    """Return the run with more letters; of equal ones the first."""
    return other if len("".join(other)) > len("".join(one)) else one


def _trigrams(text: str) -> set[str]:
    padded = f" {_NOT_WORD.sub(' ', text.casefold()).strip()} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}
