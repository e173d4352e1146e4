"""Norms of deltas: those of the dense sums, whatever shapes a patch claims."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_edit.errors import ShapeMismatch
from mlflow_edit.patches.changes import Change, LowRank, Sparse
from mlflow_edit.patches.delta_measures import frobenius

ROWS, COLS = 5, 7


def low_rank(seed: int, rank: int) -> LowRank:
    draw = torch.Generator().manual_seed(seed)
    left = torch.randn(ROWS, rank, generator=draw)
    return LowRank("w", left, torch.randn(rank, COLS, generator=draw), 0.5)


def sparse(seed: int, n: int) -> Sparse:
    draw = torch.Generator().manual_seed(seed)
    places = torch.randperm(ROWS * COLS, generator=draw)[:n].sort().values
    return Sparse("w", places, torch.randn(n, generator=draw))


changes = st.one_of(
    st.builds(low_rank, st.integers(0, 99), st.integers(0, 12)),
    st.builds(sparse, st.integers(0, 99), st.integers(0, 9)),
)


@settings(deadline=None, max_examples=80)
@given(st.lists(changes, max_size=4), st.lists(changes, max_size=3))
def test_the_norm_is_that_of_the_sum(added: list[Change], removed: list[Change]) -> None:
    nothing = torch.zeros(ROWS, COLS)
    total = nothing.double()
    for sign, some in ((1, added), (-1, removed)):
        for change in some:
            total += sign * change.added(nothing)
    assert frobenius(added, removed) == pytest.approx(float(total.norm()), rel=1e-5, abs=1e-5)


def test_no_shape_is_made_that_a_patch_only_claims() -> None:
    wide = LowRank("w", torch.full((300_000, 1), 2.0), torch.ones(1, 300_000))  # 720 GB in float64
    deep = LowRank("w", torch.ones(1, 300_000), torch.ones(300_000, 1))
    far = Sparse("w", torch.tensor([3, 2**62]), torch.tensor([3.0, 4.0]))
    near = Sparse("w", torch.tensor([5, 9 * 10**10 - 1]), torch.tensor([3.0, 4.0]))
    assert frobenius([wide]) == pytest.approx(600_000)
    assert frobenius([deep]) == pytest.approx(300_000)
    assert frobenius([far]) == pytest.approx(5)
    assert frobenius([wide, near]) == pytest.approx((3.6e11 + 4 * 7 + 25) ** 0.5)
    with pytest.raises(ShapeMismatch):
        frobenius([wide, far])
    with pytest.raises(ShapeMismatch):
        frobenius([wide], [deep])
