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
from mlflow_edit.models.activations import by_row, readings
from mlflow_edit.models.answering import example_batches
from mlflow_edit.models.architecture import Site, down_projection, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.upper_blocks import Example, Learnable, prepare
from mlflow_edit.patches.interception import submodule


class Pull(NamedTuple):
    """Of each answer token what a module is given, gives, and the gradient of the loss there.

    `inputs (n_tokens, d_in)`, `outputs (n_tokens, d_out)`, `gradients (n_tokens, d_out)`, float64
    on the CPU. The loss is the sum over tokens of the negative log-likelihood, in nats.
    """

    inputs: Tensor
    outputs: Tensor
    gradients: Tensor


def answer_inputs(
    base: BaseModel, modules: Sequence[str], asked: Sequence[Asking]
) -> dict[str, Tensor]:
    """Return what modules are given where answers are formed, `(n_tokens, d_in)` float64 each.

    Tokens come in the order of the askings, and of each answer.

    Args:
        base: the base model; what is attached to it counts.
        modules: paths of linear modules, the lowest first.
        asked: what is asked, and answered.
    """
    rows = [(*one.prompt, *one.answer[:-1]) for one in asked]
    found: dict[str, dict[int, Tensor]] = {module: {} for module in modules}
    for group, read in readings(base, modules, rows, side="input"):
        for module, given in read.items():
            for row, i in enumerate(group):
                taken = given[row, len(asked[i].prompt) - 1 : len(rows[i])]
                found[module][i] = taken.double().cpu()
    numbers = range(len(asked))
    return {module: torch.cat([parts[i] for i in numbers]) for module, parts in found.items()}


class AnswerPulls:
    """Prompts and answers, run as far as some blocks, so that those can be run again and again.

    What is attached to the model, or in force on it, counts; below the blocks, what was when this
    was made.

    Args:
        base: a causal model.
        sites: the blocks whose feed-forward weights are looked at, the lowest first.
        asked: what is asked, and answered.

    Raises:
        UnsupportedModel: as `upper_blocks.prepare`.
    """

    def __init__(self, base: BaseModel, sites: Sequence[Site], asked: Sequence[Asking]) -> None:
        self._base, self._asked = base, asked
        self._modules = [down_projection(site) for site in sites]
        below = locate(base.model, f"{sites[0].layers}.{sites[0].index - 1}")
        examples = [Example(one.prompt, one.answer, i) for i, one in enumerate(asked)]
        self._groups: list[tuple[list[int], Learnable]] = []
        for group in example_batches(examples):
            local = [example._replace(owner=row) for row, example in enumerate(group)]
            span = max(len(example.prompt) for example in group)
            prepared = prepare(base, below, local, span=span)
            self._groups.append(([example.owner for example in group], prepared))

    def read(self) -> tuple[dict[str, Pull], Verdicts]:
        """Tell how answers pull at each module, and which are right.

        Tokens come in the order of the askings, and of each answer.
        """
        n = len(self._asked)
        found: dict[str, list[Pull]] = {module: [] for module in self._modules}
        losses, right = torch.zeros(n), torch.zeros(n, dtype=torch.bool)
        for group, prepared in self._groups:
            with _probed(self._base, self._modules) as probes:
                predicted = prepared.predict(prepared.own)
                loss = cross_entropy(predicted.logits, predicted.targets, reduction="sum")
                slopes = torch.autograd.grad(loss, [probe.zero for probe in probes.values()])
            losses[group] = row_losses(predicted, len(group)).detach().cpu()
            right[group] = all_right(predicted, len(group), margin=MARGIN).cpu()
            places = self._places(group, prepared.own.shape[1])
            for (module, probe), slope in zip(probes.items(), slopes, strict=True):
                parts = (probe.given, probe.gave, slope)
                read = (by_row(part, len(group))[places] for part in parts)
                found[module].append(Pull(*(part.detach().double().cpu() for part in read)))
        owners = [i for group, _ in self._groups for i in group for _ in self._asked[i].answer]
        order = torch.tensor(owners).argsort(stable=True)
        whole = {
            module: Pull(*(torch.cat(parts)[order] for parts in zip(*several, strict=True)))
            for module, several in found.items()
        }
        return whole, Verdicts(losses, right & losses.isfinite())

    def _places(self, group: Sequence[int], span: int) -> tuple[Tensor, Tensor]:
        """Return rows and positions of answer tokens; prompts end together."""
        lengths = [len(self._asked[i].answer) for i in group]
        rows = [row for row, length in enumerate(lengths) for _ in range(length)]
        positions = [span - 1 + i for length in lengths for i in range(length)]
        return torch.tensor(rows), torch.tensor(positions)


class _Probe(NamedTuple):
    """What a module was given and gave at its last call, and a zero that was added to it."""

    given: Tensor
    gave: Tensor
    zero: Tensor


@contextmanager
def _probed(base: BaseModel, modules: Sequence[str]) -> Iterator[dict[str, _Probe]]:
    """Add to each module's output a zero whose gradient can be asked for; note input and output."""
    seen: dict[str, _Probe] = {}

    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        for module in modules:

            def add(_: Any, args: Any, output: Tensor, module: str = module) -> Tensor:
                zero = torch.zeros_like(output, requires_grad=True)
                seen[module] = _Probe(args[0], output, zero)
                return output + zero

            handle = submodule(base.model, module).register_forward_hook(add)
            stack.callback(handle.remove)
        yield seen
