"""Causal tracing: which layers carry what a prompt's subject brings to the answer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlflow_edit.errors import InvalidInputError, UnsupportedModel
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.idle_blocks import head_only_at
from mlflow_edit.models.prompts import prompt_ids, stop_ids
from mlflow_edit.patches.interception import submodule

Put = Callable[[Tensor], Tensor]


class Trace(NamedTuple):
    """What tracing found.

    `answer` is the token of the model's own answer that is followed: `clean` and `noised` are its
    probabilities with the subject's embeddings as they are, and the mean with noise on them;
    `effects` how much of it each block brings back, `(n_layers,)`.
    """

    answer: str
    clean: float
    noised: float
    effects: tuple[float, ...]


@torch.inference_mode()
def trace_layers(
    base: BaseModel,
    prompt: str,
    subject: str,
    *,
    n_samples: int,
    noise: float,
    seed: int,
    n_tokens: int = 16,
) -> Trace:
    r"""Measure the average indirect effect of each block at the subject's last token.

    $\mathrm{AIE}_l = \mathbb{E}_\epsilon\big[p(y \mid x + \epsilon, h_l := h_l(x)) - p(y \mid x +
    \epsilon)\big]$, with $\epsilon \sim \mathcal{N}(0, \nu^2)$ on the embeddings of the subject's
    tokens (Meng et al. 2022, arXiv:2202.05262, §2.1). Answers begin with words that need not the
    subject ("The capital of …"): $y$ is the token of the model's own answer that the noise makes
    least likely, given those before it. Where the answer names the subject it is noised, and its
    state put back, as in the prompt; its own tokens are not followed.

    Args:
        base: the base model.
        prompt: what is asked.
        subject: a text that stands in the prompt.
        n_samples: how many times noise is drawn.
        noise: $\nu$, in units of the standard deviation of all embeddings (the paper's is 3).
        seed: of the noise.
        n_tokens: the most tokens of the answer that are looked at.

    Raises:
        InvalidInputError: the subject does not stand in the prompt.
        UnsupportedModel: the model does not continue text, or its blocks are not known.
    """
    if base.task != "causal":
        raise UnsupportedModel(f"tracing follows models that continue text, not {base.task} ones")
    ids = prompt_ids(base, prompt)
    if not _mentions(base, ids, subject):
        raise InvalidInputError(
            f"{subject!r} does not stand in the prompt", hint="Name a part of it: --subject TEXT"
        )
    model: Any = base.model
    text = ids + _answer(base, ids, n_tokens)
    mentions = _mentions(base, text, subject)
    places = sorted({place for first, last in mentions for place in range(first, last + 1)})
    ends = [last for _, last in mentions]
    followed = [p for p in range(len(ids), len(text)) if p not in places] or [len(ids)]
    tokens = torch.tensor([text], device=base.device)
    blocks = list(submodule(model, locate(model, 0).layers).children())
    states: list[Tensor] = []
    with _outputs(blocks, lambda _, hidden: states.append(hidden[0, ends].clone())):
        plain = _probabilities(model, tokens, followed)[0]
    embeddings: nn.Module = model.get_input_embeddings()
    many, drawn = (
        tokens.expand(n_samples, -1),
        _noise(embeddings, n_samples, len(places), noise, seed),
    )
    with _replaced(embeddings, partial(_added, positions=places, some=drawn)):
        noised = _probabilities(model, many, followed).mean(0)
        most = int((plain - noised).argmax())
        effects = []
        for block, state in zip(blocks, states, strict=True):
            with _replaced(block, partial(_put, positions=ends, state=state)):
                found = _probabilities(model, many, followed[most : most + 1]).mean()
            effects.append(float(found - noised[most]))
    said = base.tokenizer.decode([text[followed[most]]])
    return Trace(said, float(plain[most]), float(noised[most]), tuple(effects))


def _answer(base: BaseModel, ids: list[int], n_tokens: int) -> list[int]:
    """Return the tokens of the model's own answer, greedy; at least one."""
    model: Any = base.model
    found: list[int] = []
    while len(found) < max(1, n_tokens):
        tokens = torch.tensor([ids + found], device=base.device)
        token = int(_logits(model, tokens, [tokens.shape[1] - 1])[0, 0].argmax())
        if found and token in stop_ids(base):
            break
        found.append(token)
    return found


def _mentions(base: BaseModel, ids: Sequence[int], subject: str) -> list[tuple[int, int]]:
    """Find the first and last token of each place where a text names the subject."""
    wanted, found, start = subject.strip().casefold(), [], 0

    def says(first: int, last: int) -> bool:
        said = base.tokenizer.decode(ids[first : last + 1], clean_up_tokenization_spaces=False)
        return wanted in said.casefold()

    for last in range(len(ids)):
        if wanted and says(start, last):
            first = last
            while not says(first, last):
                first -= 1
            found.append((first, last))
            start = last + 1
    return found


def _noise(embeddings: nn.Module, n_samples: int, n_tokens: int, noise: float, seed: int) -> Tensor:
    weight: Any = embeddings.weight
    shape = (n_samples, n_tokens, weight.shape[1])
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn * noise * float(weight.float().std())


def _probabilities(model: Any, ids: Tensor, positions: list[int]) -> Tensor:
    """Return how likely each token at these positions is after those before it, `(n_rows, n)`."""
    found = _logits(model, ids, [position - 1 for position in positions]).softmax(-1)
    return found.gather(-1, ids[:, positions, None])[..., 0]


def _logits(model: Any, ids: Tensor, positions: list[int]) -> Tensor:
    """Return the logits behind these positions, `(n_rows, n, n_tokens)`."""
    rows = torch.arange(len(ids), device=ids.device).repeat_interleave(len(positions))
    places = torch.tensor(positions, device=ids.device).repeat(len(ids))
    with head_only_at(model, rows, places):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits.float().reshape(len(ids), len(positions), -1)


def _added(hidden: Tensor, positions: list[int], some: Tensor) -> Tensor:
    hidden = hidden.clone()
    hidden[:, positions] += some.to(hidden)
    return hidden


def _put(hidden: Tensor, positions: list[int], state: Tensor) -> Tensor:
    hidden = hidden.clone()
    hidden[:, positions] = state
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
