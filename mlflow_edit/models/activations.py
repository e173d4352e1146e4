"""Read what modules of a model are given and give, at chosen tokens of many prompts."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.idle_blocks import head_only_at
from mlflow_edit.patches.interception import submodule

MAX_TOKENS = 4096  # of one pass
Side = Literal["input", "output"]


class Place(NamedTuple):
    """One token of one prompt."""

    prompt: tuple[int, ...]
    position: int


@torch.no_grad()
def read_at(base: BaseModel, module: str, places: Sequence[Place], *, side: Side) -> Tensor:
    """Return a module's input or output at each place, `(n_places, d)` float32.

    Of a causal model: tokens behind a place are not run, nor what is above the module.

    Raises:
        ShapeMismatch: the model has no such module.
    """
    found: dict[int, Tensor] = {}
    for rows in batches([place.position + 1 for place in places]):
        ids, mask = right_padded(
            base, [places[row].prompt[: places[row].position + 1] for row in rows]
        )
        with suppress(_Enough), capturing(base, module, side=side, then_stop=True) as seen:
            run_below_head(base, ids, mask)
        read = by_row(seen[-1], len(rows))
        found.update((row, read[i, places[row].position]) for i, row in enumerate(rows))
    return torch.stack([found[row].float() for row in range(len(places))])


def run_below_head(base: BaseModel, ids: Tensor, mask: Tensor) -> None:
    """Run a causal model for what its modules give; logits are computed at one token only."""
    nowhere = torch.zeros(1, dtype=torch.long, device=ids.device)
    with head_only_at(base.model, nowhere, nowhere):
        base.model(input_ids=ids, attention_mask=mask, use_cache=False)


class _Enough(Exception):
    """Ends a pass whose rest is not needed."""


@contextmanager
def capturing(
    base: BaseModel, module: str, *, side: Side, then_stop: bool = False
) -> Iterator[list[Tensor]]:
    """Note what a module is given, or gives, at every call (see `by_row`)."""
    seen: list[Tensor] = []

    def note(_: Any, args: Any, output: Any) -> None:
        taken = args[0] if side == "input" else output
        seen.append(taken if isinstance(taken, Tensor) else taken[0])
        if then_stop:
            raise _Enough

    with ExitStack() as hooks:
        found = submodule(base.model, module)
        hooks.callback(found.register_forward_hook(note).remove)
        yield seen


def by_row(hidden: Tensor, n_rows: int) -> Tensor:
    """Return hidden states as `(n_rows, n_positions, d)`: some models (OPT) put rows end to end."""
    return hidden if hidden.ndim == 3 else hidden.view(n_rows, -1, hidden.shape[-1])


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group rows of like length, so that no pass has more than `MAX_TOKENS` tokens."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if group and lengths[row] * (len(group) + 1) > MAX_TOKENS:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def right_padded(base: BaseModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, `(n_rows, n_positions)`."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), base.tokenizer.pad_token_id or 0)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(base.device), mask.to(base.device)
