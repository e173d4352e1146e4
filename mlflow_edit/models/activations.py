"""Read what modules of a model are given and give, at chosen tokens of many prompts."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import takewhile
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from mlflow_edit.models.base_model import BaseModel
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
    rows = [place.prompt[: place.position + 1] for place in places]
    for group, read in readings(base, [module], rows, side=side):
        found.update((i, read[module][row, places[i].position]) for row, i in enumerate(group))
    return torch.stack([found[i].float() for i in range(len(places))])


@torch.no_grad()
def readings(
    base: BaseModel, modules: Sequence[str], rows: Sequence[Sequence[int]], *, side: Side
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Run token ids through a causal model, pass by pass: yield which rows, and what was read.

    What modules are given, or give, is `(n_rows, n_positions, d)` each, rows padded on the right.
    What all rows of a pass begin with, as a chat template's system message, is run once.

    Args:
        base: the base model; what is attached to it counts.
        modules: paths, the last as the model runs them at the end: what is above it is not run.
        rows: token ids.
        side: which side of the modules.

    Raises:
        ShapeMismatch: the model has no such module.
    """
    for group in batches([len(row) for row in rows]):
        together = [rows[i] for i in group]
        n_shared = _n_shared(together)
        cache = DynamicCache()
        start = _read(base, modules, [together[0][:n_shared]], side, cache) if n_shared else {}
        cache.batch_repeat_interleave(len(group))
        rest = _read(base, modules, [row[n_shared:] for row in together], side, cache)
        for module, before in start.items():
            rest[module] = torch.cat([before.expand(len(group), -1, -1), rest[module]], dim=1)
        yield group, rest


def _n_shared(rows: Sequence[Sequence[int]]) -> int:
    """Count the tokens that several rows begin with; of each at least one is left."""
    if len(rows) == 1:
        return 0
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))
    return min(sum(1 for _ in alike), *(len(row) - 1 for row in rows))


def _read(
    base: BaseModel,
    modules: Sequence[str],
    rows: Sequence[Sequence[int]],
    side: Side,
    cache: DynamicCache,
) -> dict[str, Tensor]:
    """Make one pass over what follows the tokens that `cache` holds, and add to it."""
    ids, mask = right_padded(base, rows)
    before = mask.new_ones(len(rows), cache.get_seq_length())
    with suppress(_Enough), _noting(base, modules, side) as seen:
        base.model(
            input_ids=ids,
            attention_mask=torch.cat([before, mask], dim=1),
            past_key_values=cache,
            use_cache=True,
        )
    return {module: by_row(read, len(rows)) for module, read in seen.items()}


class _Enough(Exception):
    """Ends a pass whose rest is not needed."""


@contextmanager
def _noting(base: BaseModel, modules: Sequence[str], side: Side) -> Iterator[dict[str, Tensor]]:
    """Note what modules are given, or give; end the pass behind the last of them."""
    seen: dict[str, Tensor] = {}

    def note(_: Any, args: Any, output: Any, module: str) -> None:
        taken = args[0] if side == "input" else output
        seen[module] = taken if isinstance(taken, Tensor) else taken[0]
        if module == modules[-1]:
            raise _Enough

    with ExitStack() as hooks:
        for module in modules:
            found = submodule(base.model, module)
            hooks.callback(found.register_forward_hook(partial(note, module=module)).remove)
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
