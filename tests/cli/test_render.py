"""How verbs say where a version is reviewed."""

import pytest

from mlflow_edit.cli.render import review_parts
from mlflow_edit.operations.review import ReviewState


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            ReviewState(queue="#/q", changes=3, approved=1),
            ["review: 1 of 3 approved; mledit ui shows the queue:", "  http://127.0.0.1:5000/#/q"],
        ),
        (
            ReviewState(
                queue="http://host/#/q", changes=3, approved=2, rejected=1, reviewers=("ada", "bob")
            ),
            ["review: 2 of 3 approved, 1 rejected by ada, bob; the queue:", "  http://host/#/q"],
        ),
        (ReviewState(said="read the page"), ["review: read the page"]),
        (ReviewState(queue="#/q", changes=3, failed=True), []),
        (None, []),
    ],
)
def test_a_link_has_a_line_of_its_own(state: ReviewState | None, said: list[str]) -> None:
    assert [str(part) for part in review_parts(state)] == said
