"""What scorers of `mlflow.genai.evaluate` say of odd rows and odd answers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_edit import scorers
from mlflow_edit.core.answers import is_hit, is_unchanged
from mlflow_edit.errors import InvalidInputError

HITS = [scorers.reliability, scorers.generality, scorers.portability]
ALL = [*HITS, scorers.locality]


def about(judge: Any, answers: Any, **more: Any) -> dict[str, Any]:
    return {"metric": judge.name, "answers": answers, **more}


@given(answer=st.text(max_size=20), expected=st.lists(st.text(max_size=8), min_size=1, max_size=3))
def test_any_text_is_judged_as_a_scorecard_judges_it(answer: str, expected: list[str]) -> None:
    for judge in HITS:
        row = about(judge, expected)
        assert judge(outputs=answer, expectations=row) == is_hit(answer, expected)
        row = about(judge, expected, exact=True)
        assert judge(outputs=answer, expectations=row) == (answer in expected)
    row = about(scorers.locality, expected)
    assert scorers.locality(outputs=answer, expectations=row) == is_unchanged(answer, expected[0])


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
@pytest.mark.parametrize("row", [None, {}, {"answers": ["Rome"]}, {"metric": "other"}], ids=str)
def test_rows_about_something_else_are_passed_over(judge: Any, row: Any) -> None:
    assert judge(outputs=["odd"], expectations=row) is None


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
@pytest.mark.parametrize("answers", [None, [], [3], {"a": 1}, 3, ["Rome", None]], ids=str)
def test_a_row_without_answers_is_named(judge: Any, answers: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"about {judge.name} has no answers") as refused:
        judge(outputs="Rome", expectations=about(judge, answers))
    assert "rows" in str(refused.value.hint)


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
@pytest.mark.parametrize("answers", ["Rome", ("Rome",), np.array(["Rome"])], ids=repr)
def test_one_answer_is_read_however_it_is_held(judge: Any, answers: Any) -> None:
    row = about(judge, answers)
    assert judge(outputs="Rome", expectations=row) is True
    assert judge(outputs="R", expectations=row) is False
    exact = about(judge, answers, exact=True)
    assert judge(outputs="Rom", expectations=exact) is False


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
@pytest.mark.parametrize("target", ["None", "", "Rome"])
def test_nothing_answered_is_not_right(judge: Any, target: str) -> None:
    assert judge(outputs=None, expectations=about(judge, [target])) is False


@pytest.mark.parametrize("judge", ALL, ids=lambda judge: judge.name)
@pytest.mark.parametrize("odd", [["Rome"], {"answer": "Rome"}, b"Rome"], ids=repr)
def test_what_is_no_text_is_refused(judge: Any, odd: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"found {type(odd).__name__}"):
        judge(outputs=odd, expectations=about(judge, ["Rome"]))
