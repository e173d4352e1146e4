"""Counts and probabilities in words."""

import pytest

from mlflow_edit.core.text import counted, sure


def test_one_thing_is_said_as_one() -> None:
    assert [counted(n, "edit") for n in (0, 1, 1200)] == ["0 edits", "1 edit", "1,200 edits"]
    assert counted(2, "batch", "batches") == "2 batches"


@pytest.mark.parametrize(
    ("match", "said"), [(1.0, "100 %"), (0.9999, "99 %"), (0.835, "84 %"), (0.0, "0 %")]
)
def test_only_certainty_is_said_to_be_certain(match: float, said: str) -> None:
    assert sure(match) == said
