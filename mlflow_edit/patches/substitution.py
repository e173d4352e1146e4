"""Let modules of a model compute with other weights than their own, in some threads and not others.

No parameter is changed: a module that owns a substituted one runs as a shallow copy of itself whose
parameters are the substitutes. Everything else of the model exists once.
"""

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mlflow_edit.errors import ShapeMismatch, UnsupportedModel
from mlflow_edit.patches.patch import Firing

_taking_over = threading.Lock()  # held while what is put on a module changes, never while it runs


class Substitution:
    """Substitutes that are in force on a model; an `Attachment`. Weights do not fire."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @property
    def active(self) -> bool:
        """Tell whether this thread computes with the substitutes."""
        return not getattr(self._thread, "disabled", False)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Let the base model answer in this thread while the context lasts."""
        before = not self.active
        self._thread.disabled = True
        try:
            yield
        finally:
            self._thread.disabled = before

    @contextmanager
    def recording(self) -> Iterator[list[Firing]]:
        """Collect nothing: weights are always in force."""
        yield []


@contextmanager
def substituted(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[Substitution]:
    """Let `model` compute with other weights for the length of a context.

    Contexts stack: of two that substitute one parameter the later counts. Tensors that require
    gradients are given them, so that an editor can train them where they will be in force.

    Args:
        model: the base model, whose parameters stay as they are.
        tensors: substitutes by the canonical names of parameters, of equal shapes.

    Raises:
        ShapeMismatch: there is no such parameter, or it has another shape.
        UnsupportedModel: something else has taken over a module (offloading by accelerate does).
    """
    substitution = Substitution()
    places = [
        (module, name, tensors[path])
        for path, owners in owners_of(model, tensors).items()
        for module, name in owners
    ]
    try:
        for module, name, tensor in places:
            with _taking_over:
                _switch_of(module).put(substitution, name, tensor)
        yield substitution
    finally:
        for module, _, _ in places:
            _withdraw(module, substitution)


def effective(module: nn.Module, name: str = "weight") -> Tensor:
    """Return the weight that `module` computes with in this thread: a substitute, or its own."""
    switch = module.__dict__.get("forward")
    own: Tensor = getattr(module, name)
    return switch.parameters().get(name, own) if isinstance(switch, _Switch) else own


def canonical_name(model: nn.Module, name: str) -> str:
    """Return the first of the names by which the model knows a parameter (of tied ones).

    Raises:
        ShapeMismatch: it has no such parameter.
    """
    wanted = parameter(model, name)
    return next(path for path, one in model.named_parameters() if one is wanted)


def parameter(model: nn.Module, name: str) -> nn.Parameter:
    """Return a parameter of the base model by its dotted name.

    Raises:
        ShapeMismatch: there is none.
    """
    try:
        return model.get_parameter(name)
    except AttributeError as error:
        raise ShapeMismatch(
            f"the model ({type(model).__name__}) has no parameter {name!r}",
            hint="Was the patch made for another base model?",
        ) from error


def owners_of(
    model: nn.Module, tensors: Mapping[str, Tensor]
) -> dict[str, list[tuple[nn.Module, str]]]:
    """Find, for each named parameter, the modules that hold it, and under what name.

    Raises:
        ShapeMismatch: there is no such parameter, its name is not the canonical one of tied
            parameters, or its shape is another.
    """
    paths: dict[int, str] = {}
    for path, tensor in tensors.items():
        own = parameter(model, path)
        if canonical_name(model, path) != path:
            named = canonical_name(model, path)
            raise ShapeMismatch(f"{path} is tied to {named}", hint=f"Name it {named}.")
        if own.shape != tensor.shape:
            shapes = f"{tuple(own.shape)}, the substitute {tuple(tensor.shape)}"
            raise ShapeMismatch(f"{path} has the shape {shapes}")
        paths[id(own)] = path
    found: dict[str, list[tuple[nn.Module, str]]] = {path: [] for path in tensors}
    for module in model.modules():
        for name, one in module._parameters.items():
            if id(one) in paths:
                found[paths[id(one)]].append((module, name))
    return found


class _Switch:
    """The `forward` of one module while substitutes are on it: chooses anew at every call."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._layers: tuple[tuple[Substitution, str, Tensor], ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module, or its copy with the substitutes of this thread."""
        tensors = self.parameters()
        forward = type(self._module).forward
        if not tensors:
            return forward(self._module, *args, **kwargs)
        twin = copy.copy(self._module)
        twin.__dict__["_parameters"] = {**self._module._parameters, **tensors}
        return forward(twin, *args, **kwargs)

    def parameters(self) -> dict[str, Tensor]:
        """Return the substitutes that are in force in this thread, by name."""
        return {name: tensor for by, name, tensor in self._layers if by.active}

    def put(self, by: Substitution, name: str, tensor: Tensor) -> None:
        """Put a substitute over those that are there."""
        self._layers = (*self._layers, (by, name, tensor))

    def take(self, by: Substitution) -> bool:
        """Take the substitutes of one context away; tell whether any are left."""
        self._layers = tuple(layer for layer in self._layers if layer[0] is not by)
        return bool(self._layers)


def _switch_of(module: nn.Module) -> _Switch:
    found = module.__dict__.get("forward")
    if found is None:
        module.__dict__["forward"] = found = _Switch(module)
    if not isinstance(found, _Switch):
        raise UnsupportedModel(
            f"the forward call of a {type(module).__name__} was replaced by something else",
            hint="Weight deltas need a model on one device, without offloading by accelerate.",
        )
    return found


def _withdraw(module: nn.Module, substitution: Substitution) -> None:
    with _taking_over:
        switch = module.__dict__.get("forward")
        if isinstance(switch, _Switch) and not switch.take(substitution):
            del module.__dict__["forward"]
