"""Run only the part of a model that an edit can change, from activations cached below it.

Nothing below the edited block depends on the value that is learned there, and in a causal model
neither does anything before the key token. One full pass therefore gives, for many edits at once,
the key, the block's output at the answer's positions and the keys and values of attention before
the key token; after that each step of learning runs the upper blocks over a handful of positions.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mlflow_edit.errors import UnsupportedModel
from mlflow_edit.models.architecture import Site
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.idle_blocks import head_only_at, only_above, watched
from mlflow_edit.patches.interception import submodule


class Example(NamedTuple):
    """One thing to learn: after `prompt` tokens the model must give the `answer`.

    For a classifier `answer` is the one number of the class. Examples of one `owner` (numbered from
    0 without gaps) are the same edit in several contexts: they share their values.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    owner: int


class Predictions(NamedTuple):
    """Logits `(n_targets, n_classes)`, the token wanted at each, and the owner each is of.

    `penalty` `(n_owners,)` is what learning is to keep small beside the loss, where there is any.
    """

    logits: Tensor
    targets: Tensor
    rows: Tensor
    penalty: Tensor | None = None


class Learnable(ABC):
    """Examples prepared so that values for their key tokens can be learned."""

    own: Tensor  # (n_examples, span, d_model), the block's own output where values are put
    key_tokens: Tensor  # (n_examples,), the last token of each prompt
    owners: Tensor  # (n_examples,)

    @property
    def keys(self) -> Tensor:
        """The block's own output at the key token of each example, `(n_examples, d_model)`."""
        return self.own[:, -1]

    @property
    def start(self) -> Tensor:
        """Where learning starts: the mean of `own` over each owner, `(n_owners, span, d_model)`."""
        n_owners = int(self.owners.amax()) + 1
        own = self.own.float()
        total = own.new_zeros((n_owners, *own.shape[1:])).index_add(0, self.owners, own)
        return total / self.owners.bincount(minlength=n_owners)[:, None, None]

    @property
    def scale(self) -> Tensor:
        """The unit of each owner's steps, `(n_owners, 1, 1)`: the RMS of where it starts."""
        return self.start.square().mean((1, 2), keepdim=True).sqrt()

    def bounded(self, values: Tensor) -> Tensor:
        """Bring values back to where they may be: anywhere, unless a problem says otherwise."""
        return values

    @abstractmethod
    def predict(self, values: Tensor) -> Predictions:
        """Predict all answers with `values` `(n_owners, span, d_model)` in place."""

    @abstractmethod
    def rows(self, rows: Tensor) -> Self:
        """Keep some of the examples, their owners numbered as before."""

    def select(self, owners: Tensor) -> Self:
        """Keep the examples of some owners, which are numbered anew in the order given."""
        places = torch.full_like(self.owners.new_empty(int(self.owners.amax()) + 1), -1)
        places[owners] = torch.arange(len(owners), device=places.device)
        numbers = places[self.owners]
        kept = (numbers >= 0).nonzero()[:, 0]
        kept = kept[numbers[kept].argsort(stable=True)]
        return replace(self.rows(kept), owners=numbers[kept])  # type: ignore[type-var]

    def alone(self) -> Self:
        """Keep the first example of each owner."""
        n_owners = int(self.owners.amax()) + 1
        first = [int((self.owners == owner).nonzero()[0, 0]) for owner in range(n_owners)]
        return self.rows(torch.tensor(first, device=self.owners.device))


def prepare(
    base: BaseModel, site: Site, examples: Sequence[Example], *, span: int = 1
) -> Learnable:
    """Make the one full pass that learning needs.

    Args:
        base: the base model.
        site: the block that is edited.
        examples: what is to be learned; pass as many as fit in memory together.
        span: how many positions get a value, the key token's and those before it.

    Raises:
        UnsupportedModel: the model has no cache of keys and values for each of its blocks.
    """
    if site.family.task == "causal":
        return _prepare_causal(base, site, examples, span)
    return _prepare_whole(base, site, examples)


@dataclass(frozen=True, eq=False)
class _Causal(Learnable):
    base: BaseModel
    site: Site
    own: Tensor
    key_tokens: Tensor
    owners: Tensor
    after: Tensor  # (n, n_suffix - span, d_model): the block's output behind the key token
    past: dict[int, tuple[Tensor, Tensor]]  # of blocks that run: (n, n_heads, n_prefix, d_head)
    suffix: Tensor  # (n, n_suffix) token ids from the first value on
    mask: Tensor  # (n, n_prefix + n_suffix)
    targets: Tensor  # (n, n_suffix), -100 where nothing is wanted
    idle: tuple[nn.Module, ...]  # blocks that predicting can do without

    def predict(self, values: Tensor) -> Predictions:
        hidden = torch.cat([values[self.owners].to(self.after.dtype), self.after], dim=1)
        cache = self._cache()
        mask = self.mask if cache is not None else self.mask[:, -self.suffix.shape[1] :]
        inputs = _causal_inputs(self.base.model, self.suffix, self.mask)
        inputs["attention_mask"] = mask
        rows, positions = (self.targets >= 0).nonzero(as_tuple=True)
        with (
            only_above(self.base.model, self.site, self.idle, hidden),
            head_only_at(self.base.model, rows, positions),
        ):
            output = self.base.model(**inputs, past_key_values=cache, use_cache=cache is not None)
        targets = self.targets[rows, positions]
        return Predictions(output.logits[0].float(), targets, self.owners[rows])

    def rows(self, rows: Tensor) -> "_Causal":
        span = self.own.shape[1]
        width = span - 1 + int((self.targets[rows] >= 0).sum(1).amax())
        prefix = self.mask.shape[1] - self.suffix.shape[1]
        start = int((self.mask[rows, :prefix].sum(0) == 0).sum())  # columns that are padding only
        return replace(
            self,
            own=self.own[rows],
            key_tokens=self.key_tokens[rows],
            owners=self.owners[rows],
            after=self.after[rows, : width - span],
            past={i: (k[rows, :, start:], v[rows, :, start:]) for i, (k, v) in self.past.items()},
            suffix=self.suffix[rows, :width],
            mask=self.mask[rows, start : prefix + width],
            targets=self.targets[rows, :width],
        )

    def _cache(self) -> DynamicCache | None:
        """Fill a cache for the blocks that run; the idle ones get its length only."""
        n_prefix = self.mask.shape[1] - self.suffix.shape[1]
        if not self.past or not n_prefix:
            return None
        cache = DynamicCache()
        blank = self.after.new_zeros((len(self.mask), 1, n_prefix, 1))
        for index in range(self.site.n_layers):
            cache.update(*self.past.get(index, (blank, blank)), index)
        return cache


def _prepare_causal(base: BaseModel, site: Site, examples: Sequence[Example], span: int) -> _Causal:
    n_prompt = max(len(e.prompt) for e in examples)
    n_suffix = max(len(e.answer) for e in examples)
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.full((len(examples), n_prompt + n_suffix - 1), pad)
    mask = torch.zeros_like(ids)
    targets = torch.full((len(examples), span - 1 + n_suffix), -100)
    for row, (prompt, answer, _) in enumerate(examples):
        tokens = torch.tensor([*prompt, *answer[:-1]])
        start = n_prompt - len(prompt)
        ids[row, start : start + len(tokens)] = tokens
        mask[row, start : start + len(tokens)] = 1
        targets[row, span - 1 : span - 1 + len(answer)] = torch.tensor(answer)
    ids, mask, targets = ids.to(base.device), mask.to(base.device), targets.to(base.device)
    cache = DynamicCache()  # without the configuration: sliding windows are masked, never cut off
    nowhere = torch.zeros(1, dtype=torch.long, device=ids.device)
    with (
        torch.no_grad(),
        watched(base.model, site) as seen,
        head_only_at(base.model, nowhere, nowhere),
    ):
        base.model(**_causal_inputs(base.model, ids, mask), past_key_values=cache, use_cache=True)
    n_prefix = n_prompt - span
    hidden = seen.hidden[:, n_prefix:]
    idle = seen.idle()
    blocks = list(submodule(base.model, site.layers).children())
    if len(cache.layers) != len(blocks):
        raise UnsupportedModel(f"{type(base.model).__name__} keeps no keys and values of its own")
    return _Causal(
        base=base,
        site=site,
        own=hidden[:, :span].clone(),
        key_tokens=ids[:, n_prompt - 1],
        owners=_owners(examples).to(ids.device),
        after=hidden[:, span:].clone(),
        past={
            index: (layer.keys[:, :, :n_prefix], layer.values[:, :, :n_prefix])
            for index, (layer, block) in enumerate(zip(cache.layers, blocks, strict=True))
            if n_prefix and block not in idle
        },
        suffix=ids[:, n_prefix:],
        mask=mask,
        targets=targets,
        idle=idle,
    )


def _owners(examples: Sequence[Example]) -> Tensor:
    return torch.tensor([example.owner for example in examples])


def _causal_inputs(model: nn.Module, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Say where each token stands, for padding on the left must not move it."""
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        inputs["position_ids"] = positions[:, -ids.shape[1] :]
    return inputs


@dataclass(frozen=True, eq=False)
class _Whole(Learnable):
    """Encoders and decoders of encoder-decoders: the blocks above run over the whole sequence."""

    base: BaseModel
    site: Site
    own: Tensor
    key_tokens: Tensor
    owners: Tensor
    inputs: dict[str, Any]
    targets: Tensor  # (n, n_targets)
    hidden: Tensor  # (n, n_positions, d_model), the block's own output
    idle: tuple[nn.Module, ...]

    def predict(self, values: Tensor) -> Predictions:
        put = values[self.owners].to(self.hidden.dtype)
        hidden = torch.cat([put, self.hidden[:, 1:]], dim=1)
        with only_above(self.base.model, self.site, self.idle, hidden):
            logits = self.base.model(**self.inputs).logits
        if logits.ndim == 2:  # one class for each example
            return Predictions(logits.float(), self.targets[:, 0], self.owners)
        rows, positions = (self.targets >= 0).nonzero(as_tuple=True)
        wanted = self.targets[rows, positions]
        return Predictions(logits[rows, positions].float(), wanted, self.owners[rows])

    def rows(self, rows: Tensor) -> "_Whole":
        return replace(
            self,
            own=self.own[rows],
            key_tokens=self.key_tokens[rows],
            owners=self.owners[rows],
            inputs={name: _rows_of(value, rows) for name, value in self.inputs.items()},
            targets=self.targets[rows],
            hidden=self.hidden[rows],
        )


def _rows_of(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[rows]
    return type(value)(last_hidden_state=value.last_hidden_state[rows])


def _prepare_whole(base: BaseModel, site: Site, examples: Sequence[Example]) -> _Whole:
    model: Any = base.model
    padded = base.tokenizer.pad(
        {"input_ids": [list(e.prompt) for e in examples]}, return_tensors="pt", padding_side="right"
    ).to(base.device)
    inputs: dict[str, Any] = {
        "input_ids": padded["input_ids"],
        "attention_mask": padded["attention_mask"],
    }
    n_targets = max(len(e.answer) for e in examples)
    targets = torch.full((len(examples), n_targets), -100)
    for row, example in enumerate(examples):
        targets[row, : len(example.answer)] = torch.tensor(example.answer)
    targets = targets.to(base.device)
    with torch.no_grad(), watched(model, site) as seen:
        if site.family.task == "seq2seq":
            encoded = model.get_encoder()(**inputs)
            start = torch.full_like(targets[:, :1], model.config.decoder_start_token_id)
            before = targets[:, :-1].clamp(min=0)
            inputs = {
                "encoder_outputs": encoded,
                "attention_mask": inputs["attention_mask"],
                "decoder_input_ids": torch.cat([start, before], dim=1),
            }
        model(**inputs)
    tokens = inputs["decoder_input_ids" if site.family.task == "seq2seq" else "input_ids"]
    return _Whole(
        base=base,
        site=site,
        own=seen.hidden[:, :1].clone(),
        key_tokens=tokens[:, 0].clone(),
        owners=_owners(examples).to(base.device),
        inputs=inputs,
        targets=targets,
        hidden=seen.hidden,
        idle=seen.idle(),
    )
