"""Misspelt words are read as the words of the edit, and no others."""

import pytest

from mlflow_edit.core.spelling import respelled

COMMON = frozenset(
    [
        "who",
        "is",
        "the",
        "president",
        "of",
        "capital",
        "austria",
        "wrote",
        "where",
        "was",
        "born",
        "in",
    ]
)


@pytest.mark.parametrize(
    ("text", "like", "expected"),
    [
        ("who is the presidnet of Bostwana", "The president of Botswana is", "president"),
        ("who is the presidnet of Bostwana", "The president of Botswana is", "Botswana"),
        ("Oresund Brigde", "The length of the Øresund Bridge is", "Øresund Bridge"),
        ("what was the nmae of Hergee?", "What was Hergé's real name?", "Hergé?"),
    ],
)
def test_a_misspelt_word_is_mended(text: str, like: str, expected: str) -> None:
    assert expected in respelled(text, like, COMMON.__contains__)


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("the capital of Austria", "The capital of Australia is"),  # a known word of its own
        ("HLA-DQ5", "Which species has the HLA-DQ6 gene?"),  # too short, and numbers
        ("Apollo 11", "Who commanded Apollo 12?"),
        ("Where was Peter born?", "Where was Piotr Iwanow born?"),  # not that much alike
        ("her godmother", "Who is the mother of Ada?"),
        ("who rewrote it", "Who wrote it?"),
        ("is it unprofitable", "Is it profitable?"),
        ("a cure of hypotension", "A cure of hypertension is"),
        ("what is prednisolone", "What is prednisone?"),
        ("Anna Petersson", "Anna Pederson"),
        ("the presidents of it", "the presidents of it"),
        ("", "The president of Botswana is"),
        ("presidnet", ""),
    ],
)
def test_other_words_stay(text: str, like: str) -> None:
    assert respelled(text, like, COMMON.__contains__) == text


def test_everything_between_words_stays() -> None:
    text = "  (Bostwana),\n\tBostwana's… 12 🙂 "
    expected = "  (Botswana),\n\tBotswana's… 12 🙂 "
    assert respelled(text, "Botswana", COMMON.__contains__) == expected
