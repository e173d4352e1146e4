"""What a question is about: names in a text, and how much of a name another text has."""

import re
import unicodedata

from mlflow_edit.core.folding import folded

_WORD = re.compile(r"[\w][\w'’.-]*")
_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b")
_NOT_WORD = re.compile(r"[^\w]+")
_LETTERS = re.compile(r"[^\W\d_]{4,}")
_OPPOSITE = ("un", "in", "im", "il", "ir", "dis", "non", "mis", "de", "re", "co", "step", "god")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}\b)")
_PASSIVE = re.compile(r"\s+(?:(?:is|are|was|were|gets|got|has been|had been)\s+)?(\w+ed)\s+by\b")
_NEXT = re.compile(r"\s+(\w+)")
_ENDING = re.compile(r"(?:es|ed|s|e)$")
_LINKS = frozenset({"of", "the", "de", "la", "von", "van", "and"})
_OPENERS = {
    *("who", "what", "where", "when", "which", "how", "whose", "why", "name", "list", "give"),
    *("a", "an", "the", "in", "on", "at", "of", "for", "to", "by", "from", "can", "could"),
    *("is", "was", "are", "were", "do", "does", "did", "tell", "please"),
}
_POSSESSIVE = re.compile(r"['’]s?$")
_OFFICE = re.compile(
    r"(?:\w+ )*(?:C[EFTOI]O|VP|PM|MP|President|Minister|Chancellor|Mayor|Governor|Secretary)"
    r"(?: of (?:the )?(?=\w)|$)"
)
N_FEATURES = 6


def found_subject(prompt: str) -> str:
    """Return the longest run of capitalised words and numbers in a question, or nothing.

    Of an office and whose it is (`CEO of Twitter`) it is who has it: other words name the office.
    """
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
        best, current = _longer(best, _named(current)), []
    return " ".join(_longer(best, _named(current)))


def _named(run: list[str]) -> list[str]:
    """Leave out of a run of words an office, whose it is stands behind it, and a possessive."""
    return _OFFICE.sub("", _POSSESSIVE.sub("", " ".join(run)), count=1).split()


def overlap(subject: str, text: str) -> float:
    """Return the share of a name's trigrams that a text has, in [0, 1]."""
    wanted = trigrams(subject)
    return len(wanted & trigrams(text)) / max(1, len(wanted))


def subject_features(subject: str, text: str, earlier: str) -> tuple[float, ...]:
    """Describe how far what a user says, and said before, is about a subject: 6 numbers."""
    if not subject:
        return (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    share = overlap(subject, f"{text} {earlier}")
    whole, little = float(share > 0.99), float(share < 0.45)
    return (share, share * share, whole, little, overlap(subject, text), 0.0)


def asks_otherwise(subject: str, prompt: str, text: str) -> bool:
    """Tell whether a text asks something else than a prompt for reasons that its letters show."""
    return (
        other_number(prompt, text)
        or turned_round(subject, prompt, text)
        or negated(prompt, text)
        or unreadable(prompt, text)
    )


def other_number(prompt: str, text: str) -> bool:
    """Tell whether both texts hold numbers, and none in common: another year, season or edition."""
    wanted, said = (set(_NUMBER.findall(_GROUPED.sub("", one))) for one in (prompt, text))
    return bool(wanted) and bool(said) and not wanted & said


def turned_round(subject: str, prompt: str, text: str) -> bool:
    """Tell whether a verb stands behind the subject actively in one text, passively in the other.

    `A follows` and `A is followed by` ask for opposite things.
    """
    active, passive = zip(*(_verbs(subject, said) for said in (prompt, text)), strict=True)
    return bool(set(active[0]) & set(passive[1]) or set(active[1]) & set(passive[0]))


def negated(prompt: str, text: str) -> bool:
    """Tell whether one text has the opposite of a word of the other: official, unofficial."""
    mine, other = (set(_LETTERS.findall(folded(one))) for one in (prompt, text))
    return any(_opposed(word, mine - other) for word in other - mine) or any(
        _opposed(word, other - mine) for word in mine - other
    )


def _opposed(word: str, others: set[str]) -> bool:
    return any(
        word.startswith(prefix) and len(word) > len(prefix) + 3 and word[len(prefix) :] in others
        for prefix in _OPPOSITE
    )


def unreadable(prompt: str, text: str) -> bool:
    """Tell whether the encoder, which reads English, cannot tell two texts apart.

    Letters of either are mostly not Latin, or the second lacks a symbol of the first.
    """
    wanted = {c for c in prompt if unicodedata.category(c) == "So"}
    if not wanted <= set(text):
        return True
    return not (_mostly_latin(prompt) and _mostly_latin(text))


def _mostly_latin(text: str) -> bool:
    letters = [c for c in folded(text) if c.isalpha()]
    return 2 * sum(c.isascii() for c in letters) >= len(letters)


def _verbs(subject: str, text: str) -> tuple[list[str], list[str]]:
    """Return the stems of the words behind each mention of a subject: as they are, in passive."""
    active, passive = [], []
    for part in text.casefold().split(subject.casefold())[1:] if subject else ():
        if found := _PASSIVE.match(part):
            passive.append(_stem(found[1]))
        elif found := _NEXT.match(part):
            active.append(_stem(found[1]))
    return active, passive


def _stem(word: str) -> str:
    return _ENDING.sub("", word)


def _longer(one: list[str], other: list[str]) -> list[str]:
    """Return the run with more letters; of equal ones the first."""
    return other if len("".join(other)) > len("".join(one)) else one


def trigrams(text: str) -> set[str]:
    """Return the runs of three letters in a text, case and punctuation folded."""
    padded = f" {_NOT_WORD.sub(' ', folded(text)).strip()} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}
