"""Names in questions, and how much of a name a text has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_edit.core.subjects import (
    N_FEATURES,
    asks_otherwise,
    found_subject,
    negated,
    other_number,
    overlap,
    subject_features,
    turned_round,
    unreadable,
)


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("Who directed The Return of Martin Guerre?", "The Return of Martin Guerre"),
        ("The capital of Kazakhstan is", "Kazakhstan"),
        ("Who won the FIFA World Cup in 2022?", "FIFA World Cup"),
        ("What is Robert Delaunay's spouse's name?", "Robert Delaunay"),
        ("Who is the CEO of Twitter?", "Twitter"),
        ("Who is the Prime Minister of the United Kingdom?", "United Kingdom"),
        ("Who is the Foreign Secretary?", ""),
        ("Who founded the Bank of America?", "Bank of America"),
        ("what is love?", ""),
        ("", ""),
        ("In which year was C14 Timberwolf made?", "C14 Timberwolf"),
    ],
)
def test_the_longest_name_is_found(prompt: str, subject: str) -> None:
    assert found_subject(prompt) == subject


def test_overlap_is_one_for_a_name_that_is_there_and_falls_with_misspelling() -> None:
    asked = "where was Ernest Rutherford born"
    assert overlap("Ernest Rutherford", asked) == 1
    assert 0.4 < overlap("Ernest Rutherford", "where was Ernest Rutherfrod born") < 1
    assert overlap("Ernest Rutherford", "where was Leo XII born") < 0.2


@given(st.text(), st.text(), st.text())
def test_features_are_finite_numbers_of_any_text(subject: str, text: str, earlier: str) -> None:
    found = subject_features(subject, text, earlier)
    assert len(found) == N_FEATURES
    assert all(0 <= number <= 1 for number in found)
    assert isinstance(found_subject(text), str)


@pytest.mark.parametrize(
    ("prompt", "text", "other"),
    [
        ("Who won the cup in 2022?", "Who won the cup in 2018?", True),
        ("Who won the cup in 2022?", "Who won it in 2022, and in 2018?", False),
        ("Who won the cup in 2022?", "Who won the last cup?", False),
        ("Who won the cup?", "Who won the cup in 2018?", False),
        ("Who made the C14?", "Who made the 14?", False),
    ],
)
def test_another_number_is_seen(prompt: str, text: str, other: bool) -> None:
    assert other_number(prompt, text) == other


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("Ajax follows", "Ajax is followed by", True),
        ("ajax is followed by", "Ajax follows", True),
        ("Ajax owns", "Ajax was owned by", True),
        ("Ajax influences", "Ajax has been influenced by", True),
        ("Ajax is followed by", "Who follows Ajax?", False),  # behind the verb: the same
        ("Ajax was created by", "Ajax, created by", False),
        ("Ajax was created by", "Tell me of Ajax, who created it?", False),
        ("Ajax follows", "Ajax follows", False),
        ("Ajax follows", "Brutus is followed by", False),
    ],
)
def test_a_verb_turned_round(prompt: str, text: str, expected: bool) -> None:
    assert turned_round("Ajax", prompt, text) is expected
    assert turned_round("Ajax", text, prompt) is expected
    assert turned_round("", prompt, text) is False


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("What is the official language?", "What is the unofficial language?", True),
        ("Who is the mother of Ada?", "Who is the godmother of Ada?", True),
        ("Who wrote Emma?", "who rewrote emma", True),
        ("Who wrote Emma?", "Who wrote Emma, and who rewrote it?", False),
        ("Who wrote Emma?", "Who is the author of Emma?", False),
    ],
)
def test_a_negated_word_asks_for_something_else(prompt: str, text: str, expected: bool) -> None:
    assert negated(prompt, text) is expected
    assert asks_otherwise("", prompt, text) is expected


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("ใครเป็นผู้ก่อตั้ง", "อากาศเป็นอย่างไร", True),
        ("Кто написал Эмму?", "Какая погода?", True),
        ("Who founded 🦊?", "Who founded 🐻?", True),
        ("Who founded 🦊?", "hey 🙂 who founded 🦊", False),
        ("Who founded Łódź?", "who founded Lodz", False),
        ("12", "12?", False),
    ],
)
def test_what_the_encoder_cannot_read(prompt: str, text: str, expected: bool) -> None:
    assert unreadable(prompt, text) is expected


def test_groups_of_digits_are_one_number() -> None:
    assert not other_number("Who won the 1,000 m race?", "who won the 1000 m race")
    assert other_number("Who won in 1,000?", "Who won in 2,000?")


@pytest.mark.parametrize(
    ("one", "other"), [("José Núñez", "Jose Nu\u0301n\u0303ez"), ("Łódź", "Lodz")]
)
def test_accents_do_not_tell_subjects_apart(one: str, other: str) -> None:
    assert overlap(one, other) == overlap(other, one) == 1.0
