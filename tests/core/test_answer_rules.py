import pytest
from hypothesis import given
from strategies import texts

from mlflow_edit.core.answers import is_hit, is_unchanged, words

HITS = [
    ("Paris", "Paris"),
    ("paris.", "Paris"),
    ("  Paris, of course", "Paris"),
    ('"Paris"', "Paris"),
    ("PARIS\nis the capital", "paris"),
    ("New York City", "New York"),
    ("New-York City", "new york"),
    ("Straße 5", "STRASSE"),
    ("cafe\u0301 au lait", "café"),
    ("ﬁne art", "fine"),
    ("3.14 is pi", "3.14"),
    ("3.", "3"),
    ("हिन्दी भाषा", "हिन्दी"),
    ("…", "…"),
    ("C++ is", "C++"),
    ("東京です".replace("です", " です"), "東京"),
]
MISSES = [
    ("Parisian", "Paris"),
    ("It is Paris", "Paris"),
    ("", "Paris"),
    ("New", "New York"),
    ("Newark", "New"),
    ("3.14", "3"),
    ("1,000", "1"),
    ("हन्द", "हिन्दी"),
    ("हिन्दीका", "हिन्दी"),
    ("Paris", ""),
    ("Paris", "  "),
    ("?", "!"),
]


@pytest.mark.parametrize(("answer", "target"), HITS)
def test_hits(answer: str, target: str) -> None:
    assert is_hit(answer, [target])
    assert is_hit(answer, ["something else", target])


@pytest.mark.parametrize(("answer", "target"), MISSES)
def test_misses(answer: str, target: str) -> None:
    assert not is_hit(answer, [target])


def test_nothing_hits_no_target() -> None:
    assert not is_hit("Paris", [])


@given(texts)
def test_a_target_hits_itself_and_what_it_begins(target: str) -> None:
    assert is_hit(target, [target])
    assert is_hit(f"{target} and more", [target])


@given(texts)
def test_words_of_words_are_the_same(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)


@pytest.mark.parametrize(
    ("answer", "base", "same"),
    [
        ("Paris", "Paris", True),
        (" Paris\n", "Paris", True),
        ("Paris", "paris", False),
        ("Paris.", "Paris", False),
        ("Pa ris", "Paris", False),
        ("", " ", True),
        ("", "Paris", False),
    ],
)
def test_unchanged(answer: str, base: str, same: bool) -> None:
    assert is_unchanged(answer, base) is same
    assert is_unchanged(base, answer) is same
