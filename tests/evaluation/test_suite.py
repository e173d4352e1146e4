"""Suites: what is read, and that every malformed line is named."""

import pytest

from mlflow_edit.errors import InvalidInputError
from mlflow_edit.evaluation.suite import default_suite, parse_suite


def test_questions_and_texts_are_read() -> None:
    text = (
        '\ufeff{"prompt": "Who?", "answers": ["Ada", "Lovelace"], "id": 7}\n\n'
        '{"text": "Plain."}\r\n'
        '{"prompt": "Where?", "target": "Oslo", "text": "passed over"}'
    )
    suite = parse_suite(text, name="mine")
    assert [(q.prompt, q.answers) for q in suite.questions] == [
        ("Who?", ("Ada", "Lovelace")),
        ("Where?", ("Oslo",)),
    ]
    assert suite.texts == ("Plain.",)
    assert suite.name == "mine"


def test_a_suite_is_named_by_its_content() -> None:
    one = parse_suite('{"text": "a"}', name="x")
    assert parse_suite('{"text":"a"}\n', name="y").digest == one.digest
    assert parse_suite('{"text": "b"}', name="x").digest != one.digest
    assert parse_suite('{"prompt": "a", "answers": ["a"]}', name="x").digest != one.digest


def test_the_suite_that_ships_is_read() -> None:
    suite = default_suite()
    assert suite.questions
    assert suite.texts
    assert suite == default_suite()


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "3",
        "[]",
        '"text"',
        "null",
        "{}",
        '{"prompt": "Who?"}',
        '{"prompt": "Who?", "answers": []}',
        '{"prompt": "Who?", "answers": "Ada"}',
        '{"prompt": "", "answers": ["Ada"]}',
        '{"text": ""}',
        '{"text": 3}',
        '{"prompt": "Who?", "answers": [3]}',
        '{"prompt": ["Who?"], "answers": ["Ada"]}',
        '{"prompt": "Who?", "answers": null}',
        "[" * 100_000,
        '{"text": "\\ud800"}',
    ],
)
def test_a_malformed_line_is_named(line: str) -> None:
    good = '{"text": "fine"}'
    with pytest.raises(InvalidInputError) as caught:
        parse_suite(f"{good}\n\n{line}\n{good}\n{line}", name="mine.jsonl")
    assert "mine.jsonl" in caught.value.message
    assert "line 3: " in caught.value.message
    assert "line 5: " in caught.value.message
    assert "line 1" not in caught.value.message


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_an_empty_suite_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        parse_suite(text, name="mine")


def test_no_more_than_twenty_problems_are_shown() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_suite("{\n" * 50, name="mine")
    assert caught.value.message.count("\n  line ") == 20
