"""A move that stands in the ledger, and whose alias is not set yet, counts for whoever is next."""

import threading
import time
from collections.abc import Iterator

import pytest
from registry_fixtures import draft_of

from mlflow_edit.core.ledger import Move
from mlflow_edit.errors import LostRaceError
from mlflow_edit.operations.promote import promote
from mlflow_edit.operations.rollback import rollback
from mlflow_edit.registry.memory_registry import MemoryRegistry
from stress.racing import BASE


class SlowAliases(MemoryRegistry):
    """Holds up those who set an alias, while `go` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.waiting = threading.Event(), threading.Event()
        self.go.set()

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        self.waiting.set()
        assert self.go.wait(30)
        super().set_alias(name, alias, version)


@pytest.fixture
def registry() -> SlowAliases:
    made = SlowAliases()
    made.create_model("m")
    for i in range(3):
        made.publish(draft_of("m", BASE, message=f"candidate {i}"))
    promote("m@1", to="champion", author="Ada", registry=made)
    return made


@pytest.fixture
def under_way(registry: SlowAliases) -> Iterator[None]:
    """Somebody is moving the alias to version 2, and takes a while."""
    registry.go.clear()
    registry.waiting.clear()
    mover = threading.Thread(
        target=promote,
        args=("m@2",),
        kwargs={"to": "champion", "author": "B", "registry": registry},
    )
    mover.start()
    assert registry.waiting.wait(30)
    threading.Timer(0.5, registry.go.set).start()
    yield
    mover.join()


@pytest.mark.usefixtures("under_way")
def test_a_promotion_waits_for_the_one_before(registry: SlowAliases) -> None:
    assert promote("m@3", to="champion", author="C", registry=registry).previous == 2
    moves = [entry for entry in registry.ledger("m").values() if isinstance(entry, Move)]
    assert [move.previous for move in moves[1:]] == [move.to for move in moves[:-1]]


@pytest.mark.usefixtures("under_way")
def test_a_promotion_if_current_loses_to_the_one_before(registry: SlowAliases) -> None:
    with pytest.raises(LostRaceError):
        promote("m@3", to="champion", if_current="1", author="C", registry=registry)
    assert len(registry.ledger("m")) == 2


@pytest.mark.usefixtures("under_way")
def test_a_rollback_takes_back_the_one_before(registry: SlowAliases) -> None:
    back = rollback("m", "champion", author="C", registry=registry)
    assert (back.previous, back.version) == (2, 1)


def test_an_alias_that_was_moved_by_hand_is_believed_at_once(registry: SlowAliases) -> None:
    registry.set_alias("m", "champion", 3)
    start = time.monotonic()
    assert promote("m@2", to="champion", author="C", registry=registry).previous == 3
    assert time.monotonic() - start < 5


def test_an_alias_at_what_the_ledger_knows_is_taken_to_lag_behind_it(
    registry: SlowAliases,
) -> None:
    promote("m@1", to="champion", author="C", registry=registry)
    promote("m@2", to="champion", author="C", registry=registry)
    registry.set_alias("m", "champion", 1)
    with pytest.raises(LostRaceError):
        promote("m@3", to="champion", if_current="1", author="C", registry=registry)
    assert promote("m@3", to="champion", author="C", registry=registry).previous == 2
