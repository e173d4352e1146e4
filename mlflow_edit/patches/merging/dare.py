"""Drop elements at random, rescale the rest, and add (DARE)."""

import torch
from torch import Tensor

from mlflow_edit.patches.changes import Change
from mlflow_edit.patches.merging.strategy import Settings, Update, as_changes


def dare(tensor: str, ours: Update, theirs: Update, settings: Settings) -> tuple[Change, ...]:
    r"""Return $\lambda \sum_i m_i \odot \Delta_i / d$ with masks $m_i$ of density $d$.

    What is kept is drawn for each side, weight and seed by itself: it does not depend on which
    side is called ours. Yu et al., "Language Models are Super Mario", 2024.
    """
    both = _dropped(tensor, ours, settings) + _dropped(tensor, theirs, settings)
    return as_changes(tensor, ours.base, settings.weight * both)


def _dropped(tensor: str, side: Update, settings: Settings) -> Tensor:
    generator = side.generator(tensor, settings.seed)
    mask = torch.rand(side.base.shape, generator=generator, dtype=torch.float64) < settings.density
    return torch.where(mask, side.total / settings.density, torch.zeros_like(side.total))
