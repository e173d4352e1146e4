"""Names in questions, and how much of a name a text has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_edit.core.subjects import (
    N_FEATURES,
    found_subject,
    other_number,
    overlap,
    subject_features,
    turned_round,
)


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("Who directed The Return of Martin Guerre?", "The Return of Martin Guerre"),
        ("The capital of Kazakhstan is", "Kazakhstan"),
        ("Who won the FIFA World Cup in 2022?", "FIFA World Cup"),
        ("What is Robert Delaunay's spouse's name?", "Robert Delaunay's"),
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
