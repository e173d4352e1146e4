"""Entries of GRACE's own scope: keys are the block's output, radii L2 distances from it."""

from collections.abc import Callable, Sequence
from importlib import resources
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.models.architecture import Site
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.models.upper_blocks import Example, prepare
from mlflow_edit.patches.codebook import PRECISION_SLACK, Codebook

ROUNDING = 0.05  # of the radius: how far a key may be moved by the type that it is stored in


class HiddenKeys(NamedTuple):
    """Keys `(n_entries, d_key)` and the tokens `(n_entries,)` at which they were read."""

    keys: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, read: Sequence[tuple[Tensor, int]], *, width: int) -> Self:
        """Stack keys of one width."""
        keys = torch.stack([key for key, _ in read]) if read else torch.zeros(0, width)
        return cls(keys, torch.tensor([token for _, token in read], dtype=torch.long))


Form = TypeVar("Form", bound=Codebook)


def hidden_codebook(
    base: BaseModel,
    site: Site,
    edits: Sequence[Edit],
    values: Sequence[Tensor],
    found: HiddenKeys,
    *,
    radius: float,
    relative: bool,
    form: Callable[..., Form],
) -> Form:
    """Make a codebook of learned values `(1, d_model)`, keyed by the block's own output.

    Args:
        base: the base model.
        site: the block that is edited.
        edits: what was learned.
        values: one for each edit.
        found: their keys.
        radius: the deferral radius that all of them ask for.
        relative: whether it is a share of the median distance between unrelated questions.
        form: makes it of its parts: a codebook, or a memory.
    """
    if relative:
        radius *= _typical_distance(calibration_keys(base, site))
    dtype = values[0].dtype if values else torch.float16
    shape = (0, found.keys.shape[1])
    return form(
        layer=site.layer,
        stack=site.family.stack,
        keys=_rounded(found.keys, dtype, radius),
        values=torch.cat(list(values)) if values else torch.zeros(shape, dtype=dtype),
        radii=radius + _slack(found.keys, base),
        key_tokens=found.tokens,
        labels=tuple(edit.label_digest for edit in edits),
        edit_ids=tuple(edit.id for edit in edits),
    )


def calibration_keys(base: BaseModel, site: Site) -> Tensor:
    """Return the keys of unrelated questions, `(n_questions, d_key)` float32.

    The questions ship with the package: what is taken from them is the same for every batch.
    """
    questions = (
        (resources.files("mlflow_edit.editors") / "calibration.txt").read_text().splitlines()
    )
    return keys_of(base, site, questions)


def keys_of(base: BaseModel, site: Site, prompts: Sequence[str]) -> Tensor:
    """Return the block's own output at the key token of each prompt, `(n_prompts, d_key)`."""
    examples = [
        Example(tuple(prompt_ids(base, prompt)), (0,), owner)
        for owner, prompt in enumerate(prompts)
    ]
    return prepare(base, site, examples).keys.float().cpu()


def _rounded(keys: Tensor, dtype: torch.dtype, radius: float) -> Tensor:
    """Store keys in `dtype`, unless rounding (or overflow) would move them out of their places."""
    rounded = keys.to(dtype)
    moved = (rounded.float() - keys).norm(dim=1)
    return rounded if bool((moved <= ROUNDING * radius).all()) else keys


def _slack(keys: Tensor, base: BaseModel) -> Tensor:
    """Return by how much a model of higher precision may miss keys that this one read."""
    dtype = next(base.model.parameters()).dtype
    if torch.finfo(dtype).bits >= 32:
        return torch.zeros(len(keys))
    slack: Tensor = PRECISION_SLACK * torch.finfo(dtype).eps * keys.float().norm(dim=1)
    return slack


def _typical_distance(keys: Tensor) -> float:
    """Return the median distance from a key to the nearest other one."""
    distances = torch.cdist(keys, keys).fill_diagonal_(torch.inf)
    return float(distances.amin(dim=1).median())
