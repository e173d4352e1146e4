"""Learn the values of many entries at once: each its own optimisation, all in one batch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mlflow_edit.models.upper_blocks import Learnable, Predictions

BETAS, ADAM_FLOOR = (0.9, 0.999), 1e-8
PATIENCE = 8  # steps without a better loss before a row's learning rate is halved
MIN_MARGIN = 1.0  # nats by which every answer token must lead


@dataclass(frozen=True, slots=True)
class Search:
    """How long and how far to look for a value.

    `learning_rate` is in units of the RMS of the block's own output at the key token, so that one
    setting serves every model and layer; `loss_target` is the mean negative log-likelihood of the
    answer's tokens, in nats, at which a value is good enough.
    """

    learning_rate: float
    max_steps: int
    loss_target: float
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Learned:
    """Values `(n, span, d_model)`; losses, steps taken and what is solved, each `(n,)`."""

    values: Tensor
    losses: Tensor
    steps: Tensor
    solved: Tensor

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return values, losses, steps and solved."""
        return self.values, self.losses, self.steps, self.solved


def learn_values(
    examples: Learnable, search: Search, *, on_step: Callable[[int, float], None]
) -> Learned:
    r"""Minimise each owner's loss over its own values, by Adam from the block's own output.

    For every owner $i$ independently, $v_i = \arg\min_v -\frac1T \sum_x \sum_t \log p(y_t \mid x,
    y_{<t}; h_L := v)$ over its examples $x$ (Hartvigsen et al. 2023, eq. 3, for one example). The
    loss is taken at the value *as it will be stored*. An owner is solved when every token of its
    answer is the model's first choice by a margin in all its examples; it leaves the batch when its
    loss is at the target too. One that stalls gets a smaller step.

    Args:
        examples: the prepared examples.
        search: limits.
        on_step: is told (rows solved, mean loss) after every step.
    """
    start = examples.start
    n, device = len(start), start.device
    best = Learned(
        start.clone(),
        torch.full((n,), torch.inf, device=device),
        torch.zeros(n, dtype=torch.long, device=device),
        torch.zeros(n, dtype=torch.bool, device=device),
    )
    rows = torch.arange(n, device=device)  # which owner each active row is
    state = _Adam.at(start, search.learning_rate * examples.scale)
    stalled = torch.zeros(n, dtype=torch.long, device=device)
    for step in range(search.max_steps + 1):
        values = state.values.requires_grad_(True)
        with torch.enable_grad():
            stored = values + (_as_stored(values, search.dtype) - values).detach()
            predictions = examples.predict(stored)
            losses = row_losses(predictions, len(rows))
            aim = losses if predictions.penalty is None else losses + predictions.penalty
            (gradient,) = torch.autograd.grad(aim.sum(), values)
        losses = losses.detach()
        right = all_right(predictions, len(rows)) & losses.isfinite()
        done = right & (losses <= search.loss_target)
        held = best.solved[rows]  # a value that answers right gives way only to one that does
        better = done | (right & ~held) | ((losses < best.losses[rows]) & (right | ~held))
        took = rows[better]
        best.values[took] = stored.detach()[better]
        best.losses[took] = losses[better]
        best.solved[took] = right[better]
        best.steps[rows] = step
        on_step(int(best.solved.sum()), float(best.losses.mean()))
        if bool(done.all()) or step == search.max_steps:
            break
        stalled = torch.where(better, 0, stalled + 1)
        state.slow(stalled >= PATIENCE)
        stalled[stalled >= PATIENCE] = 0
        state.advance(gradient.nan_to_num())
        state.values = examples.bounded(state.values)
        if bool(done.any()):
            kept = (~done).nonzero()[:, 0]
            rows, stalled = rows[kept], stalled[kept]
            examples, state = examples.select(kept), state.select(kept)
    return best


@dataclass(slots=True)
class _Adam:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980) with a step size, and a clock, for each row."""

    values: Tensor
    rates: Tensor  # (n, 1, 1)
    first: Tensor
    second: Tensor
    clock: int = 0

    @classmethod
    def at(cls, values: Tensor, rates: Tensor) -> "_Adam":
        zeros = torch.zeros_like(values)
        return cls(values.clone(), rates.clamp(min=1e-6), zeros, zeros.clone())

    def advance(self, gradient: Tensor) -> None:
        self.clock += 1
        self.first = BETAS[0] * self.first + (1 - BETAS[0]) * gradient
        self.second = BETAS[1] * self.second + (1 - BETAS[1]) * gradient.square()
        first = self.first / (1 - BETAS[0] ** self.clock)
        second = self.second / (1 - BETAS[1] ** self.clock)
        self.values = self.values.detach() - self.rates * first / (second.sqrt() + ADAM_FLOOR)

    def slow(self, rows: Tensor) -> None:
        self.rates = torch.where(rows[:, None, None], self.rates / 2, self.rates)

    def select(self, rows: Tensor) -> "_Adam":
        return _Adam(
            self.values[rows], self.rates[rows], self.first[rows], self.second[rows], self.clock
        )


def _as_stored(values: Tensor, dtype: torch.dtype) -> Tensor:
    limit = torch.finfo(dtype).max
    return values.detach().clamp(-limit, limit).to(dtype).float()


def row_losses(predictions: Predictions, n_rows: int) -> Tensor:
    """Return each owner's mean negative log-likelihood, `(n_rows,)`."""
    losses = cross_entropy(predictions.logits, predictions.targets, reduction="none")
    zeros = losses.new_zeros(n_rows)
    counts = zeros.index_add(0, predictions.rows, torch.ones_like(losses.detach()))
    return zeros.index_add(0, predictions.rows, losses) / counts


def all_right(predictions: Predictions, n_rows: int, *, margin: float = MIN_MARGIN) -> Tensor:
    """Tell which owners answer right by a margin at every token, `(n_rows,)`."""
    logits, targets, rows, _ = predictions
    wanted = logits.detach().gather(1, targets[:, None])[:, 0]
    others = logits.detach().scatter(1, targets[:, None], -torch.inf).amax(1)
    wrong = (wanted - others < margin).float()
    return torch.zeros(n_rows, device=logits.device).index_add(0, rows, wrong) == 0
