"""When a version is said to forget edits, or to move what no edit is about."""

import pytest

from mlflow_edit.core.forgetting import disturbed, forgotten
from mlflow_edit.core.scorecard import Scorecard


@pytest.mark.parametrize(
    ("locality", "test_retention", "said"),
    [
        (1.0, 0.9, None),
        (None, None, None),
        (0.333, 1.0, "only 0.33 of neighbours are answered as before"),
        (1.0, 0.5, "only 0.50 of test questions are answered as before"),
        (0.0, 0.5, "only 0.00 of neighbours and 0.50 of test questions are answered as before"),
    ],
)
def test_what_moves_is_said(
    locality: float | None, test_retention: float | None, said: str | None
) -> None:
    assert disturbed(Scorecard(locality=locality, test_retention=test_retention)) == said


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ([], ": what was edited is being forgotten"),
        (["a", "b"], "; forgotten: a, b"),
        (list("abcdefg"), "; forgotten: a, b, c, d, e and 2 more"),
    ],
)
def test_what_is_forgotten_is_named(lost: list[str], said: str) -> None:
    told = forgotten(Scorecard(retention=0.6), Scorecard(retention=0.5), lost)
    assert told == f"the version answers 0.60 of its edits as it should, its parent 0.50{said}"
    assert forgotten(Scorecard(retention=0.9), None, lost) is None
