"""Let blocks of a model rest whose work is known already, and put one block's output in place."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlflow_edit.models.architecture import Site
from mlflow_edit.patches.interception import submodule


@dataclass(eq=False)
class Seen:
    """What the edited block and those below it gave in a full pass."""

    hidden: Tensor
    plain: dict[nn.Module, bool]

    def idle(self) -> tuple[nn.Module, ...]:
        """Return the blocks whose work is not needed again.

        One that hands more than hidden states to its successors (T5's position bias) must be run.
        """
        return tuple(block for block, is_plain in self.plain.items() if is_plain)


@contextmanager
def watched(model: nn.Module, site: Site) -> Iterator[Seen]:
    """Note the output of the edited block, and what kind of output it and those below it give."""
    seen = Seen(torch.empty(0), {})

    def note(block: nn.Module, args: Any, output: Any) -> None:
        seen.plain[block] = isinstance(output, Tensor)
        seen.hidden = output if isinstance(output, Tensor) else output[0]

    with ExitStack() as hooks:
        for index in range(site.index + 1):
            block = submodule(model, f"{site.layers}.{index}")
            hooks.callback(block.register_forward_hook(note).remove)
        yield seen


@contextmanager
def only_above(
    model: nn.Module, site: Site, idle: Sequence[nn.Module], hidden: Tensor
) -> Iterator[None]:
    """Let the model run with `hidden` as the output of the edited block, and `idle` blocks rest."""

    def put(block: nn.Module, args: Any, output: Any) -> Any:
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

    with ExitStack() as restored:
        for block in idle:
            restored.enter_context(_resting(block))
        edited = submodule(model, site.layer)
        restored.callback(edited.register_forward_hook(put).remove)
        yield


@contextmanager
def head_only_at(model: nn.Module, rows: Tensor, positions: Tensor) -> Iterator[None]:
    """Let the model compute logits `(1, n, n_tokens)` at these `(n,)` rows and positions only.

    The matrix of the vocabulary is a large part of a small model's work and memory.
    """

    def pick(head: nn.Module, args: Any) -> tuple[Tensor]:
        return (args[0][rows, positions][None],)

    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _resting(block: nn.Module) -> Iterator[None]:
    """Let a block hand on what it is given. Others may have put a `forward` of theirs on it."""
    own = vars(block).get("forward")

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states

    try:
        block.forward = forward
        yield
    finally:
        vars(block).pop("forward", None)
        if own is not None:
            block.forward = own
