"""Tell which edits hold under a change of the weights, and leave out those that do not."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.editors.contexts import Asking
from mlflow_edit.editors.editor import Learning, Outcome
from mlflow_edit.editors.value_learning import all_right, row_losses
from mlflow_edit.models.answering import example_batches, predict_answers
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.upper_blocks import Example
from mlflow_edit.patches.changes import Change
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.substitution import effective, substituted

MARGIN = 0.1  # nats by which every answer token must lead, in the edited model itself


class Verdicts(NamedTuple):
    """Of each asking, `(n,)`: nats per answer token, and whether the answer is right."""

    losses: Tensor
    right: Tensor


@torch.no_grad()
def judge(base: BaseModel, asked: Sequence[Asking], changes: Sequence[Change] = ()) -> Verdicts:
    """Look at each asking with the changes in force, on top of what is attached."""
    losses, right = torch.zeros(len(asked)), torch.zeros(len(asked), dtype=torch.bool)
    examples = [Example(one.prompt, one.answer, i) for i, one in enumerate(asked)]
    with in_force(base, changes):
        for group in example_batches(examples):
            owners = torch.tensor([example.owner for example in group])
            local = [example._replace(owner=i) for i, example in enumerate(group)]
            found = predict_answers(base, local, model=base.model)
            losses[owners] = row_losses(found, len(group)).cpu()
            right[owners] = all_right(found, len(group), margin=MARGIN).cpu()
    return Verdicts(losses, right & losses.isfinite())


@contextmanager
def in_force(base: BaseModel, changes: Sequence[Change]) -> Iterator[None]:
    """Add changes to the weights that the model computes with, for the length of a context."""
    totals: dict[str, Tensor] = {}
    for change in changes:
        if change.tensor not in totals:
            totals[change.tensor] = weight_of(base, change.tensor).to(torch.float64)
        totals[change.tensor] = totals[change.tensor] + change.added(
            own_weight(base, change.tensor)
        )
    weights = {name: total.to(own_weight(base, name).dtype) for name, total in totals.items()}
    with substituted(base.model, weights):
        yield


def weight_of(base: BaseModel, name: str) -> Tensor:
    """Return the weight that the model computes with: the base's, or what is attached over it."""
    module, _, own = name.rpartition(".")
    return effective(base.model.get_submodule(module), own).detach()


def own_weight(base: BaseModel, name: str) -> Tensor:
    """Return the base's own weight."""
    return base.model.get_parameter(name).detach()


def settle(
    edits: Sequence[Edit],
    steps: Sequence[int],
    solve: Callable[[list[int]], tuple[Change, ...]],
    look: Callable[[list[int], tuple[Change, ...]], Verdicts],
    *,
    start: Sequence[float],
) -> Learning:
    """Solve for all edits; for those that hold again without the others, until all of them do.

    Args:
        edits: the batch's edits.
        steps: how many steps each took.
        solve: gives the changes for some of them, by number.
        look: tells how some of them fare under the changes.
        start: the loss of each as it is told where nothing was tried: not finite.
    """
    losses = torch.tensor(start)
    kept = [i for i in range(len(edits)) if math.isfinite(start[i])]
    changes: tuple[Change, ...] = ()
    while kept:
        changes = solve(kept)
        losses[kept], right = look(kept, changes)
        if right.all():
            break
        kept = [i for i, holds in zip(kept, right.tolist(), strict=True) if holds]
    solved = set(kept)
    outcomes = tuple(
        Outcome(edit.id, i in solved, float(losses[i]), steps[i]) for i, edit in enumerate(edits)
    )
    return Learning(Delta(changes if kept else (), tuple(edits[i].id for i in kept)), outcomes)
