"""`show` compares a version with its parents where both were measured by the same protocol."""

from pathlib import Path

import pytest
from registry_fixtures import draft_of, root_of

from mlflow_edit import MemoryRegistry, show
from mlflow_edit.core.scorecard import Scorecard

MINE = {"suite": "tiny", "suite_digest": "1", "dtype": "float32", "device": "cpu"}


def measured(protocol: dict[str, str], *, reliability: float, locality: float) -> Scorecard:
    return Scorecard(reliability=reliability, locality=locality, protocol=protocol)


@pytest.mark.parametrize(
    ("changed", "compared", "named"),
    [
        ({}, {"reliability", "locality"}, ()),
        ({"device": "cuda"}, {"reliability", "locality"}, ()),
        ({"suite": "other", "suite_digest": "2"}, {"reliability"}, ("suite", "suite_digest")),
        ({"dtype": "bfloat16"}, set(), ("dtype",)),
    ],
)
def test_only_what_was_measured_alike_is_compared(
    chat_folder: Path, changed: dict[str, str], compared: set[str], named: tuple[str, ...]
) -> None:
    registry = MemoryRegistry()
    old = measured(MINE | changed, reliability=0.5, locality=1.0)
    root = root_of(registry, chat_folder, "m", scorecard=old)
    new = measured(MINE, reliability=1.0, locality=0.75)
    registry.publish(draft_of("m", root[1].base, parents=[root], scorecard=new))
    (parent,) = show("m@2", registry=registry).parent_changes
    expected = {"reliability": 0.5, "locality": -0.25}
    assert parent.changes == {metric: expected[metric] for metric in compared}
    assert parent.protocol == named


def test_a_parent_that_was_not_measured_has_no_protocol(chat_folder: Path) -> None:
    registry = MemoryRegistry()
    root = root_of(registry, chat_folder, "m", scorecard=Scorecard())
    new = measured(MINE, reliability=1.0, locality=1.0)
    registry.publish(draft_of("m", root[1].base, parents=[root], scorecard=new))
    (parent,) = show("m@2", registry=registry).parent_changes
    assert (parent.changes, parent.protocol) == ({}, ())
