"""Counts and probabilities in words."""

import pytest

from mlflow_edit.core.text import counted, how_near, sure


def test_one_thing_is_said_as_one() -> None:
    assert [counted(n, "edit") for n in (0, 1, 1200)] == ["0 edits", "1 edit", "1,200 edits"]
    assert counted(2, "batch", "batches") == "2 batches"


@pytest.mark.parametrize(
    ("match", "said"), [(1.0, "100 %"), (0.9999, "99 %"), (0.835, "84 %"), (0.0, "0 %")]
)
def test_only_certainty_is_said_to_be_certain(match: float, said: str) -> None:
    assert sure(match) == said


@pytest.mark.parametrize(
    ("distance", "match", "said"),
    [
        (0.0, 1.0, "asked in its own words"),
        (0.25, 0.835, "asks the same (84 % sure)"),
        (0.25, None, "distance 0.25 within radius 1.30"),
    ],
)
def test_what_decided_is_what_is_said(distance: float, match: float | None, said: str) -> None:
    assert how_near(distance, 1.3, match) == said
