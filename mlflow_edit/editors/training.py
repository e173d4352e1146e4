"""Train weights until edits are answered: what editors share that descend a gradient."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlflow_edit.editors.contexts import Asking
from mlflow_edit.editors.value_learning import all_right, row_losses
from mlflow_edit.models.answering import example_batches, predict_answers
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.upper_blocks import Example

BETAS = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop: `loss_target` in nats per answer token; `batch_size` edits at each step."""

    max_steps: int
    loss_target: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class Objective:
    """What beside the edits is to be answered, and to be kept small.

    Args:
        replayed: askings that are trained with every step, and not judged.
        penalty: is added to the loss; None where there is none.
        after_step: brings weights back to where they may be.
    """

    replayed: Sequence[Asking] = ()
    penalty: Callable[[], Tensor] | None = None
    after_step: Callable[[], None] = lambda: None


def train(
    base: BaseModel,
    model: Any,
    groups: Sequence[dict[str, Any]],
    asked: Sequence[Asking],
    limits: Limits,
    objective: Objective,
    on_step: Callable[[int, float], None],
) -> int:
    """Descend the edits' mean loss by Adam until all are answered; return the steps taken.

    Every step is of the next `batch_size` edits, in turn, each with its weight alike. It ends when
    every edit, as it was last seen, was right by a margin and at the target.

    Args:
        base: whose tokenizer and task the model has.
        model: the model that is trained.
        groups: parameters and learning rates, as `torch.optim.Adam` takes them.
        asked: the edits.
        limits: when to stop.
        objective: what else is wanted.
        on_step: is told (edits solved, mean loss) before every step.
    """
    adam = torch.optim.Adam(list(groups), betas=BETAS)
    losses = torch.full((len(asked),), torch.inf)
    right = torch.zeros(len(asked), dtype=torch.bool)
    turns = _turns(len(asked), limits.batch_size)
    for step in range(limits.max_steps):
        which = next(turns)
        adam.zero_grad(set_to_none=True)
        examples = [Example(asked[i].prompt, asked[i].answer, i) for i in which]
        with torch.enable_grad():
            for rows, found, solved in _descend(base, model, examples):
                losses[rows], right[rows] = found, solved
            done = right & (losses <= limits.loss_target)
            on_step(int(done.sum()), float(losses[losses.isfinite()].mean()))
            if bool(done.all()):
                return step
            again = [Example(one.prompt, one.answer, 0) for one in objective.replayed]
            for _ in _descend(base, model, again):
                pass
            if objective.penalty is not None:
                objective.penalty().backward()  # type: ignore[no-untyped-call]
        adam.step()
        objective.after_step()
    return limits.max_steps


def _descend(
    base: BaseModel, model: Any, examples: Sequence[Example]
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Add the gradient of the mean loss, pass by pass; yield owners, losses and what is right."""
    for group in example_batches(examples):
        local = [example._replace(owner=i) for i, example in enumerate(group)]
        found = predict_answers(base, local, model=model)
        losses = row_losses(found, len(group))
        (losses.sum() / len(examples)).backward()  # type: ignore[no-untyped-call]
        owners = [example.owner for example in group]
        yield owners, losses.detach().cpu(), all_right(found, len(group)).cpu()


def _turns(n: int, size: int) -> Iterator[list[int]]:
    """Go through the edits in their order, again and again."""
    place = 0
    while True:
        yield [(place + i) % n for i in range(min(size, n))]
        place = (place + size) % n
