"""How a message is parted into questions, whatever is sent."""

import logging
import time

import pytest

from mlflow_edit.evaluation.several_questions import _questions
from mlflow_edit.models.encoder import released_encoder
from mlflow_edit.patches.scope import MAX_SENTENCES, Query, Question


@pytest.mark.parametrize(
    "said",
    [
        "Who won, and who lost?",
        "Who won,  and \t also who lost?",
        "Who won and then who lost?",
        "Who won , and who lost?",
        "Who won; who lost?",
    ],
)
def test_a_sentence_is_parted_where_it_goes_on_to_ask(said: str) -> None:
    assert [part.strip(" ,;?") for part in _questions(Query(said))] == ["Who won", "who lost"]


def test_no_more_questions_are_looked_up_than_sentences_are() -> None:
    clauses = [f"who won in {year}" for year in range(1900, 2000)]
    found = _questions(Query(f"{', and '.join(clauses)}?"))
    assert len(found) == MAX_SENTENCES
    assert found[-1] == "who won in 1999?"


def test_a_long_blank_takes_no_time() -> None:
    start = time.perf_counter()
    assert len(_questions(Query("Who won" + " " * 30_000 + "today and who lost?"))) == 2
    assert time.perf_counter() - start < 2


def test_a_long_message_is_read_without_a_library_s_advice() -> None:
    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = told.append  # type: ignore[assignment,method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        released_encoder().match([Question("Who won?")], [Query("by the sea " * 400)])
    finally:
        logger.removeHandler(handler)
    assert not told
