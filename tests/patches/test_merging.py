"""Strategies that make one update of two: by hand-computed cases, and by their laws."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mlflow_edit.errors import InvalidParams
from mlflow_edit.patches.changes import Change, Dense, LowRank, Sparse
from mlflow_edit.patches.merging.catalog import NAMES, STRATEGIES, settings_for, strategy_named
from mlflow_edit.patches.merging.strategy import Settings, Update, as_changes, kept

BASE = torch.zeros(2, 3)


def whole(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def update(total: Tensor, side: str, base: Tensor | None = None, inputs: int | None = 1) -> Update:
    base = torch.zeros(total.shape) if base is None else base
    changes = as_changes("w", base, total) if total.any() else ()
    return Update(side, base, changes, inputs)


def factors(seed: int, rank: int = 1, rows: int = 6, cols: int = 8) -> LowRank:
    draw = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=draw)
    return LowRank("w", left, torch.randn(rank, cols, generator=draw))


def low(seed: int, rank: int = 1, inputs: int = 1) -> Update:
    return Update(str(seed), torch.zeros(6, 8), (factors(seed, rank),), inputs)


def result(name: str, ours: Update, theirs: Update, **settings: Any) -> Tensor:
    found = STRATEGIES[name]("w", ours, theirs, Settings(**settings))  # type: ignore[index]
    return summed(found, ours.base)


def summed(changes: tuple[Change, ...], base: Tensor) -> Tensor:
    total = torch.zeros(base.shape, dtype=torch.float64)
    for change in changes:
        total += change.added(base).double()
    return total


ONE = whole([4, -3, 0], [1, 0.5, 2])
TWO = whole([-1, -5, 2], [3, 0, -2])


def test_linear_is_the_weighted_sum() -> None:
    found = result("linear", update(ONE, "a"), update(TWO, "b"), weight=0.5)
    torch.testing.assert_close(found, 0.5 * (ONE + TWO))


def test_magnitude_keeps_the_largest_of_each() -> None:
    found = result("magnitude", update(ONE, "a"), update(TWO, "b"), density=1 / 3)
    torch.testing.assert_close(found, whole([4, -8, 0], [3, 0, 0]))


def test_ties_by_hand() -> None:
    # kept at a half: [4 -3 0 | 0 0 2] and [0 -5 2 | 3 0 0]; of equal ones (2, -2) the first
    found = result("ties", update(ONE, "a"), update(TWO, "b"), density=0.5)
    torch.testing.assert_close(found, whole([4, -4, 2], [3, 0, 2]))
    against = result(
        "ties", update(whole([3.0, 1.0]), "a"), update(whole([-1.0, 1.0]), "b"), density=1.0
    )
    torch.testing.assert_close(against, whole([3.0, 1.0]))  # the side that loses is not in the mean


def test_dare_keeps_a_share_and_its_sum() -> None:
    ones = torch.ones(200, 200, dtype=torch.float64)
    found = result("dare", update(ones, "a"), update(0 * ones, "b"), density=0.25, seed=3)
    assert sorted(found.unique().tolist()) == [0, 4]
    assert abs(float(found.mean()) - 1) < 0.05
    again = result("dare", update(ones, "a"), update(0 * ones, "b"), density=0.25, seed=3)
    other = result("dare", update(ones, "a"), update(0 * ones, "b"), density=0.25, seed=4)
    elsewhere = result("dare", update(ones, "c"), update(0 * ones, "b"), density=0.25, seed=3)
    assert torch.equal(found, again)
    assert not torch.equal(found, other)
    assert not torch.equal(found, elsewhere)


@pytest.mark.parametrize("inputs", [0, 1])
def test_nullspace_lets_each_side_answer_to_its_own_keys(inputs: int) -> None:
    ours, theirs = low(1, 2, inputs), low(2, 1, inputs)
    found = STRATEGIES["nullspace"]("w", ours, theirs, Settings())
    (change,) = found
    assert isinstance(change, LowRank)
    assert change.rank == 3
    total = summed(found, ours.base)
    for side in (ours, theirs):
        (own,) = side.changes
        assert isinstance(own, LowRank)
        keys = own.right.double().T if inputs else own.left.double()
        mine, joint = (
            (side.total @ keys, total @ keys) if inputs else (side.total.T @ keys, total.T @ keys)
        )
        torch.testing.assert_close(joint, mine, rtol=1e-4, atol=1e-4)
        plain = ours.total + theirs.total
        assert not torch.allclose(plain @ keys if inputs else plain.T @ keys, mine, atol=1e-2)


def parallel(cosine: float) -> list[Update]:
    """Make two rank-one updates of the keys' cosine, which want opposite things."""
    keys = torch.tensor([[1.0, 0.0, 0.0], [cosine, (1 - cosine**2) ** 0.5, 0.0]])
    values = torch.tensor([[[1.0], [0.0]], [[-1.0], [2.0]]])
    return [
        Update(name, BASE, (LowRank("w", value, key[None]),), 1)
        for name, value, key in zip("ab", values, keys, strict=True)
    ]


def test_nullspace_does_not_blow_up_with_keys_that_are_nearly_parallel() -> None:
    near = parallel(0.9999)
    found = result("nullspace", *near)
    assert float(found.norm()) <= 3 * sum(float(side.total.norm()) for side in near)
    mean = (near[0].total + near[1].total) / 2
    torch.testing.assert_close(found[:, 0], mean[:, 0], rtol=0, atol=0.05)
    apart = parallel(0.9)
    told = result("nullspace", *apart)
    for side in apart:
        (own,) = side.changes
        assert isinstance(own, LowRank)
        key = own.right.double().T
        torch.testing.assert_close(told @ key, side.total @ key, rtol=1e-4, atol=1e-4)


def test_nullspace_takes_the_mean_in_common_directions() -> None:
    key = torch.tensor([[1.0, 0.0, 0.0]])
    one, two = torch.tensor([[2.0], [0.0]]), torch.tensor([[4.0], [2.0]])
    sides = [Update(n, BASE, (LowRank("w", v, key),), 1) for n, v in (("a", one), ("b", two))]
    torch.testing.assert_close(result("nullspace", *sides), whole([3, 0, 0], [1, 0, 0]))


def test_what_one_side_leaves_alone() -> None:
    mine, none = low(1), Update("b", torch.zeros(6, 8), (), 1)
    assert STRATEGIES["nullspace"]("w", mine, none, Settings()) == mine.changes
    (halved,) = STRATEGIES["linear"]("w", mine, none, Settings(weight=0.5))
    assert isinstance(halved, LowRank)
    assert halved.scale == 0.5
    for name in ("ties", "magnitude"):
        torch.testing.assert_close(result(name, mine, none, density=1.0), mine.total)


def test_equal_changes_of_both_sides_both_count() -> None:
    ours, theirs = low(1), Update("b", torch.zeros(6, 8), (factors(1),), 1)
    torch.testing.assert_close(result("linear", ours, theirs, weight=1.0), 2 * ours.total)
    vectors = [
        Update(n, torch.zeros(3), (Sparse("w", torch.tensor([1]), torch.ones(1)),)) for n in "ab"
    ]
    torch.testing.assert_close(result("nullspace", *vectors), torch.tensor([0.0, 2, 0]).double())


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_exchanging_the_sides_changes_nothing(name: str) -> None:
    for ours, theirs in ((low(1, 2), low(2, 3)), (update(ONE, "a"), update(TWO, "b"))):
        there, back = result(name, ours, theirs), result(name, theirs, ours)
        torch.testing.assert_close(there, back, rtol=1e-5, atol=1e-6)


def test_an_update_is_written_in_the_smaller_form() -> None:
    base = torch.randn(20, 20)
    few = torch.zeros(20, 20, dtype=torch.float64)
    few[3, 4] = 1.5
    many = torch.randn(20, 20, dtype=torch.float64)
    (sparse,), (dense,) = as_changes("w", base, few), as_changes("w", base, many)
    assert isinstance(sparse, Sparse)
    assert isinstance(dense, Dense)
    torch.testing.assert_close(dense.edited(base), (base.double() + many).float())
    assert as_changes("w", base, 0 * many) == ()


def test_of_equal_elements_the_first_are_kept() -> None:
    assert kept(torch.ones(4).double(), 0.5).tolist() == [1, 1, 0, 0]
    assert kept(torch.zeros(4).double(), 0.1).tolist() == [0, 0, 0, 0]


def test_settings() -> None:
    for wrong in ({"density": 0.0}, {"density": 1.5}, {"weight": -1.0}, {"seed": -1}):
        with pytest.raises(InvalidParams):
            Settings(**wrong)  # type: ignore[arg-type]
    assert settings_for("linear", density=None, weight=None, seed=None).weight == 0.5
    assert settings_for("ties", density=0.2, weight=None, seed=None) == Settings(density=0.2)
    with pytest.raises(InvalidParams, match="sum has no density"):
        settings_for("sum", density=0.5, weight=None, seed=None)
    assert [strategy_named(name) for name in NAMES] == list(NAMES)
    with pytest.raises(InvalidParams, match="no merging strategy"):
        strategy_named("median")
