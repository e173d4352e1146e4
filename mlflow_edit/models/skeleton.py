"""A copy of a model's modules that shares its weights."""

import copy
from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def skeleton_of(model: Model) -> Model:
    """Copy the tree of modules, so that modules can be put in places of the copy only.

    Parameters and buffers are the same tensors. A replaced `forward` stays the one of the model's
    own module: what is attached to the model is in force in the copy too.
    """
    shared: dict[int, object] = {}
    for module in model.modules():
        for kept in (*module._parameters.values(), *module._buffers.values()):
            shared[id(kept)] = kept
        forward = vars(module).get("forward")
        if forward is not None:
            shared[id(forward)] = forward
    return copy.deepcopy(model, shared)
