"""Learning many values together equals learning each alone."""

from typing import Any

import pytest
import torch
from models.test_upper_blocks import examples_for
from tiny_models import FAMILIES
from torch import Tensor
from torch.nn.functional import cross_entropy

from mlflow_edit.editors.value_learning import MIN_MARGIN, Learned, Search, learn_values
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.upper_blocks import Learnable, Predictions, prepare

SEARCH = Search(learning_rate=0.25, max_steps=8, loss_target=1e-9, dtype=torch.float32)


def quiet(solved: int, loss: float) -> None:
    """Be told of every step, and say nothing."""


class Linear(Learnable):
    """Examples whose logits are a linear map of their value: a problem small enough to check."""

    def __init__(self, keys: Tensor, weight: Tensor, targets: Tensor, limit: float = 1e9) -> None:
        self.own, self.weight, self.targets, self.limit = keys[:, None], weight, targets, limit
        self.owners = torch.arange(len(keys))

    def predict(self, values: Tensor) -> Predictions:
        rows = torch.arange(len(values))
        return Predictions((values[:, 0] @ self.weight).clamp(max=self.limit), self.targets, rows)

    def rows(self, rows: Tensor) -> "Linear":
        raise AssertionError("each owner has one example here")

    def select(self, owners: Tensor) -> "Linear":
        return Linear(self.keys[owners], self.weight, self.targets[owners], self.limit)


@pytest.fixture
def linear() -> Linear:
    torch.manual_seed(0)
    return Linear(torch.randn(5, 8), torch.randn(8, 6), torch.tensor([0, 1, 2, 3, 5]))


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_together_are_the_losses_alone(tiny_bases: Any, name: str, layer: int) -> None:
    base = tiny_bases[name]
    site, examples = locate(base.model, layer), examples_for(base)
    for n_steps, tolerance in ((0, 2e-4), (8, 2e-2)):
        search = Search(0.05, max(n_steps, 1), 1e-9, torch.float32)
        if n_steps == 0:
            together, alone = first_losses(base, site, examples)
        else:
            learned = learn_values(prepare(base, site, examples), search, on_step=quiet)
            together = learned.losses
            alone = torch.cat(
                [
                    learn_values(
                        prepare(base, site, [e._replace(owner=0)]), search, on_step=quiet
                    ).losses
                    for e in examples
                ]
            )
        torch.testing.assert_close(together, alone, atol=tolerance, rtol=tolerance)


def first_losses(base: Any, site: Any, examples: Any) -> tuple[Tensor, Tensor]:
    def losses(prepared: Learnable, n: int) -> Tensor:
        with torch.no_grad():
            predictions = prepared.predict(prepared.own)
        each = cross_entropy(predictions.logits, predictions.targets, reduction="none")
        return torch.stack([each[predictions.rows == row].mean() for row in range(n)])

    together = losses(prepare(base, site, examples), len(examples))
    return together, torch.cat(
        [losses(prepare(base, site, [e._replace(owner=0)]), 1) for e in examples]
    )


def test_a_row_is_learned_whatever_its_neighbours(linear: Linear) -> None:
    search = Search(0.25, 40, 0.05, torch.float16)
    together = learn_values(linear, search, on_step=quiet)
    for row in range(5):
        alone = learn_values(linear.select(torch.tensor([row])), search, on_step=quiet)
        for mine, theirs in zip(together.parts(), alone.parts(), strict=True):
            torch.testing.assert_close(mine[row], theirs[0])


def test_losses_are_of_the_values_as_they_are_stored(linear: Linear) -> None:
    learned = learn_values(linear, Search(0.25, 20, 0.05, torch.float16), on_step=quiet)
    assert torch.equal(learned.values, learned.values.half().float())
    losses = cross_entropy(linear.predict(learned.values).logits, linear.targets, reduction="none")
    torch.testing.assert_close(learned.losses, losses)


def test_solved_means_first_by_a_margin_and_at_the_target(linear: Linear) -> None:
    learned = learn_values(linear, Search(0.25, 100, 0.05, torch.float16), on_step=quiet)
    assert learned.solved.all()
    assert (learned.losses <= 0.05).all()
    assert (learned.steps < 100).all()
    logits = linear.predict(learned.values).logits
    wanted = logits.gather(1, linear.targets[:, None])[:, 0]
    others = logits.scatter(1, linear.targets[:, None], -torch.inf).amax(1)
    assert (wanted - others >= MIN_MARGIN).all()


def test_what_is_right_by_less_than_the_margin_is_not_solved() -> None:
    flat = Linear(torch.zeros(1, 2) + 1, torch.zeros(2, 3), torch.tensor([0]))
    learned = learn_values(flat, Search(0.25, 5, 5.0, torch.float32), on_step=quiet)
    assert not learned.solved.any()


def test_a_row_that_is_solved_from_the_start_takes_no_step() -> None:
    easy = Linear(torch.eye(3) * 20, torch.eye(3), torch.arange(3))
    learned = learn_values(easy, Search(0.25, 50, 0.05, torch.float32), on_step=quiet)
    assert learned.steps.tolist() == [0, 0, 0]
    assert torch.equal(learned.values, easy.own)


def test_steps_are_told_and_bounded(linear: Linear) -> None:
    told: list[tuple[int, float]] = []
    learn_values(linear, SEARCH, on_step=lambda *seen: told.append(seen))
    assert len(told) == SEARCH.max_steps + 1
    assert told[-1][1] < told[0][1]
    solved = [n for n, _ in told]
    assert solved[-1] <= 5


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_learning_rate_is_relative_to_the_hidden_states(linear: Linear, scale: float) -> None:
    scaled = Linear(linear.keys * scale, linear.weight / scale, linear.targets)
    search = Search(0.25, 20, 0.05, torch.float32)
    expected: Learned = learn_values(linear, search, on_step=quiet)
    found = learn_values(scaled, search, on_step=quiet)
    torch.testing.assert_close(found.losses, expected.losses, atol=1e-3, rtol=1e-2)


def test_values_stay_finite_in_the_type_they_are_stored_in(linear: Linear) -> None:
    huge = Linear(linear.keys * 1e5, linear.weight, linear.targets)
    learned = learn_values(huge, Search(10, 20, 1e-6, torch.float16), on_step=quiet)
    assert torch.isfinite(learned.values.half()).all()


def test_a_gradient_that_is_not_a_number_does_not_spread(linear: Linear) -> None:
    class Broken(Linear):
        def predict(self, values: Tensor) -> Predictions:
            logits, targets, rows, _ = super().predict(values)
            bad = torch.where((rows == 1)[:, None], torch.nan, 1.0)
            return Predictions(logits * bad, targets, rows)

        def select(self, rows: Tensor) -> "Broken":
            raise AssertionError("nothing is solved here")

    broken = Broken(linear.keys, linear.weight, linear.targets)
    learned = learn_values(broken, SEARCH, on_step=quiet)
    expected = learn_values(linear, SEARCH, on_step=quiet)
    assert not learned.solved[1]
    good = [0, 2, 3, 4]
    torch.testing.assert_close(learned.losses[good], expected.losses[good])
    assert torch.isfinite(learned.values).all()


def test_it_works_under_no_grad_and_inference_mode(linear: Linear) -> None:
    with torch.no_grad():
        learned = learn_values(linear, SEARCH, on_step=quiet)
    assert learned.losses.max() < 2
    assert not learned.values.requires_grad
