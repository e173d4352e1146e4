"""Read the token ids that a model is given, and replace the output of one of its layers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlflow_edit.errors import ShapeMismatch
from mlflow_edit.patches.patch import Firing, appended


class Inputs(NamedTuple):
    """What a forward call was given: ids and mask `(n_rows, n_positions)`, None where not known."""

    token_ids: Tensor | None
    attention_mask: Tensor | None


NOTHING = Inputs(None, None)

Replace = Callable[[Tensor, Inputs, Callable[[list[Firing]], None]], Tensor | None]


class Interception:
    """A replacement that is in force on one layer of a model. Safe to use from several threads.

    The replacement is a function of the token ids and hidden states of one forward call alone, so
    that it does the same with and without a key/value cache, in any batch, beam or padding.
    """

    def __init__(self, replace: Replace) -> None:
        self._replace = replace
        self._thread = threading.local()

    @classmethod
    @contextmanager
    def of(
        cls, model: nn.Module, *, layer: str, stack: str, replace: Replace
    ) -> Iterator["Interception"]:
        """Hook `replace` to the output of `layer`, with the token ids that `stack` is given.

        Raises:
            ShapeMismatch: the model has no module of that path.
        """
        interception = cls(replace)
        above, below = submodule(model, stack), submodule(model, layer)
        handles = [
            above.register_forward_pre_hook(interception._before_stack, with_kwargs=True),
            below.register_forward_hook(interception._after_layer),
            above.register_forward_hook(interception._after_stack, always_call=True),
        ]
        try:
            yield interception
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Let the base model answer in this thread while the context lasts."""
        before = getattr(self._thread, "disabled", False)
        self._thread.disabled = True
        try:
            yield
        finally:
            self._thread.disabled = before

    @contextmanager
    def recording(self, into: list[Firing] | None = None) -> Iterator[list[Firing]]:
        """Collect the firings of this thread while the context lasts."""
        firings: list[Firing] = [] if into is None else into
        with appended(self._sinks(), firings):
            yield firings

    def _sinks(self) -> list[list[Firing]]:
        if not hasattr(self._thread, "sinks"):
            self._thread.sinks = []
        sinks: list[list[Firing]] = self._thread.sinks
        return sinks

    def _record(self, firings: list[Firing]) -> None:
        for sink in self._sinks():
            sink.extend(firings)

    def _before_stack(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        token_ids = kwargs.get("input_ids", args[0] if args else None)
        known = isinstance(token_ids, Tensor) and not token_ids.is_floating_point()
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        plain = isinstance(mask, Tensor) and mask.ndim == 2
        self._thread.inputs = Inputs(token_ids if known else None, mask if plain else None)

    def _after_stack(self, module: nn.Module, args: Any, output: Any) -> None:
        self._thread.inputs = NOTHING  # the layer may be called by itself next

    def _after_layer(self, module: nn.Module, args: Any, output: Any) -> Any:
        if getattr(self._thread, "disabled", False):
            return None
        hidden = output if isinstance(output, Tensor) else output[0]
        inputs: Inputs = getattr(self._thread, "inputs", NOTHING)
        if inputs.token_ids is not None and inputs.token_ids.shape != hidden.shape[:2]:
            inputs = NOTHING
        with torch.no_grad():
            changed = self._replace(hidden, inputs, self._record)
        if changed is None:
            return None
        return changed if isinstance(output, Tensor) else (changed, *output[1:])


def submodule(model: nn.Module, path: str) -> nn.Module:
    """Return the module at a dotted path.

    Raises:
        ShapeMismatch: there is none.
    """
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise ShapeMismatch(
            f"the model ({type(model).__name__}) has no module {path!r}",
            hint="Was the patch made for another base model?",
        ) from error
