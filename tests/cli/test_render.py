"""How verbs say where a version is reviewed, and how it measured."""

import pytest

from mlflow_edit.cli.log import INDENT, _in_lines
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


def test_metrics_of_a_log_are_put_in_lines_that_fit() -> None:
    measured = [f"{name} 1.000" for name in ("reliability", "test retention", "perplexity ratio")]
    lines = _in_lines(measured * 4).split("\n" + INDENT)
    assert ", ".join(measured * 4) == " ".join(lines)
    assert len(lines) > 1
    assert all(len(INDENT + line) < 80 and line[0].isalpha() for line in lines)
