"""The closed forms of editors of weights equal independent solutions of the same problems."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.editors.alphaedit import null_space, projected_least_squares
from mlflow_edit.editors.finetune import spaced
from mlflow_edit.editors.fisher import held_back
from mlflow_edit.editors.memit import least_squares
from mlflow_edit.editors.rome import rank_one_updates
from mlflow_edit.editors.ultraedit import ridge_factor

D_IN, D_OUT, N = 7, 5, 4


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moment() -> Tensor:
    samples = drawn(D_IN, 40, seed=9)
    return samples @ samples.T / 40


def test_rome_is_one_constrained_least_squares_after_another() -> None:
    weight, keys, shifts = drawn(D_OUT, D_IN, seed=1), drawn(D_IN, N, seed=2), drawn(D_OUT, N)
    outward, inward = rank_one_updates(keys, shifts, moment())
    expected = weight.numpy().copy()
    for i in range(N):  # the KKT system of min ||(W' - W) C^1/2|| so that W' k = v, by numpy
        key, value = keys[:, i].numpy(), (weight @ keys[:, i] + shifts[:, i]).numpy()
        system = np.block([[2 * moment().numpy(), key[:, None]], [key[None], np.zeros((1, 1))]])
        missing = value - expected @ key
        sides = np.concatenate([np.zeros((D_OUT, D_IN)), missing[:, None]], axis=1)
        expected += np.linalg.solve(system, sides.T).T[:, :D_IN]
    np.testing.assert_allclose((weight + outward @ inward).numpy(), expected, atol=1e-10)


def test_rome_gives_the_last_key_its_value() -> None:
    keys, shifts = drawn(D_IN, N, seed=2), drawn(D_OUT, N)
    outward, inward = rank_one_updates(keys, shifts, moment())
    torch.testing.assert_close(outward @ (inward @ keys[:, -1]), shifts[:, -1])


def test_memit_is_the_least_squares_solution() -> None:
    keys, residuals, weighted = drawn(D_IN, N, seed=3), drawn(D_OUT, N, seed=4), 2.5 * moment()
    delta = residuals @ least_squares(keys, weighted)
    root = torch.linalg.cholesky(weighted)
    samples = torch.cat([root, keys], dim=1)  # as if the texts' keys were the columns of the root
    wanted = torch.cat([torch.zeros(D_OUT, D_IN, dtype=torch.float64), residuals], dim=1)
    expected = np.linalg.lstsq(samples.T.numpy(), wanted.T.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(delta.numpy(), expected, atol=1e-10)


def test_alphaedit_is_the_published_formula() -> None:
    keys, kept, ridge = drawn(D_IN, N, seed=3), drawn(D_IN, 2, seed=5), 0.3
    basis = null_space(moment(), 0.5)
    assert 0 < basis.shape[1] < D_IN
    projection = basis @ basis.T
    scale = (basis.T @ keys).square().sum(0).mean()
    gram = (keys @ keys.T + kept @ kept.T) @ projection
    whole = gram + ridge * scale * torch.eye(D_IN, dtype=torch.float64)
    expected = np.linalg.solve(whole.T.numpy(), (keys.T @ projection).T.numpy()).T
    found = projected_least_squares(keys, kept, basis, ridge)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_alphaedit_leaves_what_the_texts_use_alone() -> None:
    basis = null_space(moment(), 0.5)
    found = projected_least_squares(drawn(D_IN, N), drawn(D_IN, 0), basis, 0.1)
    used = torch.linalg.eigh(moment()).eigenvectors[:, basis.shape[1] :]
    torch.testing.assert_close(found @ used, torch.zeros(N, used.shape[1], dtype=torch.float64))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 1.0])
def test_the_null_space_holds_at_most_its_share(share: float) -> None:
    basis = null_space(moment(), share)
    held = torch.trace(basis.T @ moment() @ basis) / torch.trace(moment())
    assert held <= share + 1e-12


def test_ultraedit_is_the_ridge_solution() -> None:
    keys, moves, held = drawn(D_IN, N, seed=3), drawn(D_OUT, N, seed=4), 0.7 * moment()
    root = torch.linalg.cholesky(held)
    delta = moves @ ridge_factor(keys, root)
    samples = torch.cat([root, keys], dim=1)
    wanted = torch.cat([torch.zeros(D_OUT, D_IN, dtype=torch.float64), moves], dim=1)
    expected = np.linalg.lstsq(samples.T.numpy(), wanted.T.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(delta.numpy(), expected, atol=1e-10)


def test_with_the_identity_ultraedit_is_the_published_formula() -> None:
    keys, moves = drawn(N, D_IN, seed=3), drawn(N, D_OUT, seed=4)  # one row for each token
    system = keys.T @ keys + torch.eye(D_IN, dtype=torch.float64)
    expected = np.linalg.solve(system.numpy(), (keys.T @ moves).numpy()).T
    found = moves.T @ ridge_factor(keys.T, torch.eye(D_IN, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_ewc_is_the_quadratic_of_the_paper() -> None:
    before = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[0.5]])}
    weights = {"a": torch.tensor([1.5, 1.0], requires_grad=True), "b": torch.tensor([[2.5]])}
    fisher = {"a": torch.tensor([4.0, 0.25]), "b": torch.tensor([[3.0]])}
    found = held_back(weights, before, fisher, 10.0)
    assert float(found.detach()) == pytest.approx(5 * (4 * 0.25 + 0.25 * 1 + 3 * 4))
    found.backward()
    assert weights["a"].grad is not None
    assert weights["a"].grad.tolist() == pytest.approx([10 * 4 * 0.5, 10 * 0.25 * -1])


@pytest.mark.parametrize(
    ("n", "count", "expected"),
    [(5, 0, []), (0, 3, []), (5, 9, [0, 1, 2, 3, 4]), (6, 2, [2, 5]), (5, 1, [4])],
)
def test_replay_is_spread_over_the_past(n: int, count: int, expected: list[int]) -> None:
    edits = [Edit(id=f"e{i}", prompt=f"p{i}", target="t") for i in range(n)]
    assert [edit.id for edit in spaced(edits, count)] == [f"e{i}" for i in expected]
