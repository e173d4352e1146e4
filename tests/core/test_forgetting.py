"""When a version is said to forget edits, or to move what no edit is about."""

import pytest

from mlflow_edit.core.forgetting import disturbed
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
