"""Trim, elect signs, and take the mean of those that agree (TIES)."""

import torch

from mlflow_edit.patches.changes import Change
from mlflow_edit.patches.merging.strategy import Settings, Update, as_changes, kept


def ties(tensor: str, ours: Update, theirs: Update, settings: Settings) -> tuple[Change, ...]:
    r"""Merge element by element, without sides that pull against one another.

    With $\hat\Delta_i$ the largest elements of each side (density), the sign of each element is
    that of $\hat\Delta_1 + \hat\Delta_2$; the result is $\lambda$ times the mean of the sides that
    are not zero there and have that sign. Yadav et al., "TIES-Merging", 2023.
    """
    sides = torch.stack([kept(side.total, settings.density) for side in (ours, theirs)])
    agree = (sides.sign() == sides.sum(0).sign()) & (sides != 0)
    summed = torch.where(agree, sides, torch.zeros_like(sides)).sum(0)
    mean = summed / agree.sum(0).clamp(min=1)
    return as_changes(tensor, ours.base, settings.weight * mean)
