"""Read what modules are given where an answer is formed, and how it pulls at what they give."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mlflow_edit.editors.contexts import Asking
from mlflow_edit.editors.judging import MARGIN, Verdicts
from mlflow_edit.editors.value_learning import all_right, row_losses
from mlflow_edit.models.activations import by_row
from mlflow_edit.models.answering import example_batches, predict_answers
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.upper_blocks import Example
from mlflow_edit.patches.interception import submodule


class Pull(NamedTuple):
    """Of each answer token what a module is given, gives, and the gradient of the loss there.

    `inputs (n_tokens, d_in)`, `outputs (n_tokens, d_out)`, `gradients (n_tokens, d_out)`, float64
    on the CPU. The loss is the sum over tokens of the negative log-likelihood, in nats.
    """

    inputs: Tensor
    outputs: Tensor
    gradients: Tensor


def pull_answers(
    base: BaseModel, modules: Sequence[str], asked: Sequence[Asking]
) -> tuple[dict[str, Pull], Verdicts]:
    """Run a causal model over prompts and answers: see how answers pull, and which are right.

    Tokens come in the order of the askings, and of each answer. What is attached to the model, or
    in force on it, counts.

    Args:
        base: the base model.
        modules: paths of linear modules.
        asked: what is asked, and answered.
    """
    found: dict[str, list[Pull]] = {module: [] for module in modules}
    losses, right = torch.zeros(len(asked)), torch.zeros(len(asked), dtype=torch.bool)
    owners: list[int] = []
    examples = [Example(one.prompt, one.answer, i) for i, one in enumerate(asked)]
    for group in example_batches(examples):
        local = [example._replace(owner=i) for i, example in enumerate(group)]
        with _probed(base, modules) as probes:
            predicted = predict_answers(base, local, model=base.model)
            loss = cross_entropy(predicted.logits, predicted.targets, reduction="sum")
            slopes = torch.autograd.grad(loss, [probes[module][2] for module in modules])
        mine = [example.owner for example in group]
        losses[mine] = row_losses(predicted, len(group)).detach().cpu()
        right[mine] = all_right(predicted, len(group), margin=MARGIN).cpu()
        owners += [example.owner for example in group for _ in example.answer]
        for module, slope in zip(modules, slopes, strict=True):
            given, gave, _ = probes[module]
            found[module].append(_at_answers(group, given, gave, slope))
    order = torch.tensor(owners).argsort(stable=True)
    whole = {
        module: Pull(*(torch.cat(parts)[order] for parts in zip(*several, strict=True)))
        for module, several in found.items()
    }
    return whole, Verdicts(losses, right & losses.isfinite())


def _at_answers(group: Sequence[Example], *parts: Tensor) -> Pull:
    places = [
        (row, len(one.prompt) - 1 + i)
        for row, one in enumerate(group)
        for i in range(len(one.answer))
    ]
    rows, positions = torch.tensor(places).T
    read = [by_row(part, len(group))[rows, positions] for part in parts]
    return Pull(*(part.detach().double().cpu() for part in read))


@contextmanager
def _probed(
    base: BaseModel, modules: Sequence[str]
) -> Iterator[dict[str, tuple[Tensor, Tensor, Tensor]]]:
    """Add to each module's output a zero whose gradient can be asked for; note input and output."""
    seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        for module in modules:

            def add(_: Any, args: Any, output: Tensor, module: str = module) -> Tensor:
                probe = torch.zeros_like(output, requires_grad=True)
                seen[module] = (args[0], output, probe)
                return output + probe

            handle = submodule(base.model, module).register_forward_hook(add)
            stack.callback(handle.remove)
        yield seen
