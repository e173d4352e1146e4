"""Causal tracing: which layers carry what a prompt's subject brings to the answer."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlflow_edit.errors import InvalidInputError, UnsupportedModel
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.idle_blocks import head_only_at
from mlflow_edit.models.prompts import last_token_of, prompt_ids
from mlflow_edit.patches.interception import submodule

Put = Callable[[Tensor], Tensor]


class Trace(NamedTuple):
    """What tracing found.

    `clean` and `noised` are the probabilities of the answer's first token with the subject's
    embeddings as they are, and the mean with noise on them; `effects` how much of it each block
    brings back, `(n_layers,)`.
    """

    answer: str
    clean: float
    noised: float
    effects: tuple[float, ...]


@torch.inference_mode()
def trace_layers(
    base: BaseModel, prompt: str, subject: str, *, n_samples: int, noise: float, seed: int
) -> Trace:
    r"""Measure the average indirect effect of each block at the subject's last token.

    $\mathrm{AIE}_l = \mathbb{E}_\epsilon\big[p(y \mid x + \epsilon, h_l := h_l(x)) - p(y \mid x +
    \epsilon)\big]$, with $\epsilon \sim \mathcal{N}(0, \nu^2)$ on the embeddings of the subject's
    tokens and $y$ the token that the model itself gives (Meng et al. 2022, arXiv:2202.05262, §2.1).

    Args:
        base: the base model.
        prompt: what is asked.
        subject: a text that stands in the prompt.
        n_samples: how many times noise is drawn.
        noise: $\nu$, in units of the standard deviation of all embeddings (the paper's is 3).
        seed: of the noise.

    Raises:
        InvalidInputError: the subject does not stand in the prompt.
        UnsupportedModel: the model does not continue text, or its blocks are not known.
    """
    if base.task != "causal":
        raise UnsupportedModel(f"tracing follows models that continue text, not {base.task} ones")
    ids = prompt_ids(base, prompt)
    first, last = _span(base, ids, subject)
    model: Any = base.model
    layers = locate(model, 0).layers
    blocks = list(submodule(model, layers).children())
    tokens = torch.tensor([ids], device=base.device)
    clean_states: list[Tensor] = []
    with _outputs(blocks, lambda _, hidden: clean_states.append(hidden[0, last].clone())):
        plain = _next(model, tokens)
    answer = int(plain[0].argmax())
    embeddings: nn.Module = model.get_input_embeddings()
    drawn = _noise(embeddings, (n_samples, last - first + 1), noise, seed)

    def shaken(hidden: Tensor) -> Tensor:
        hidden = hidden.clone()
        hidden[:, first : last + 1] += drawn.to(hidden)
        return hidden

    many = tokens.expand(n_samples, -1)
    with _replaced(embeddings, shaken):
        noised = float(_next(model, many)[:, answer].mean())
        effects = []
        for block, state in zip(blocks, clean_states, strict=True):
            with _replaced(block, partial(_put, position=last, state=state)):
                effects.append(float(_next(model, many)[:, answer].mean()) - noised)
    said = base.tokenizer.decode([answer])
    return Trace(said, float(plain[0, answer]), noised, tuple(effects))


def _span(base: BaseModel, ids: list[int], subject: str) -> tuple[int, int]:
    """Find the subject's first and last token."""
    last = last_token_of(base, ids, subject)
    if last is None:
        raise InvalidInputError(
            f"{subject!r} does not stand in the prompt", hint="Name a part of it: --subject TEXT"
        )
    wanted, first = subject.strip().casefold(), last
    while first and wanted not in base.tokenizer.decode(ids[first : last + 1]).casefold():
        first -= 1
    return first, last


def _noise(embeddings: nn.Module, shape: tuple[int, int], noise: float, seed: int) -> Tensor:
    weight: Any = embeddings.weight
    drawn = torch.randn((*shape, weight.shape[1]), generator=torch.Generator().manual_seed(seed))
    return drawn * noise * float(weight.float().std())


def _next(model: Any, ids: Tensor) -> Tensor:
    """Return the probabilities of the next token, `(n_rows, n_tokens)`."""
    rows = torch.arange(len(ids), device=ids.device)
    with head_only_at(model, rows, torch.full_like(rows, ids.shape[1] - 1)):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits.float().softmax(-1)


def _put(hidden: Tensor, position: int, state: Tensor) -> Tensor:
    hidden = hidden.clone()
    hidden[:, position] = state
    return hidden


@contextmanager
def _replaced(module: nn.Module, change: Put) -> Iterator[None]:
    def hook(_: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return change(output)
        return (change(output[0]), *output[1:])

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _outputs(blocks: list[nn.Module], note: Callable[[nn.Module, Tensor], None]) -> Iterator[None]:
    def hook(block: nn.Module, args: Any, output: Any) -> None:
        note(block, output if isinstance(output, Tensor) else output[0])

    with ExitStack() as hooks:
        for block in blocks:
            hooks.callback(block.register_forward_hook(hook).remove)
        yield
