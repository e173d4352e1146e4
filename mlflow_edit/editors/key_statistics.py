"""The second moment of a layer's keys: what an edit of its weights has to leave alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from mlflow_edit.core.digest import json_digest
from mlflow_edit.errors import InvalidParams, MlflowEditError
from mlflow_edit.models.activations import batches, by_row, capturing, right_padded
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.cache import cache_folder
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.patches.format import Packed, pack, unpack
from mlflow_edit.patches.weights import effective, substituted

FORM = "key-statistics"
MAX_TEXT_TOKENS = 512  # of one text: the rest is left away


def texts_for(path: str | None) -> tuple[str, ...]:
    """Read texts, one a line: those of a file, or those that ship with the package.

    Raises:
        InvalidParams: the file cannot be read, or has no text.
    """
    try:
        if path is None:
            folder = resources.files("mlflow_edit.editors") / "data"
            read = (folder / "covariance_texts.txt").read_text("utf-8")
        else:
            read = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParams(f"covariance_texts: {path} cannot be read: {error}") from error
    texts = tuple(line.strip() for line in read.splitlines() if line.strip())
    if not texts:
        raise InvalidParams(f"covariance_texts: {path} has no text")
    return texts


def second_moment(
    base: BaseModel, module: str, texts: Sequence[str], *, ridge: float = 0.0
) -> Tensor:
    r"""Estimate $C = \mathbb{E}[k k^\top]$ of what a linear module is given, `(d_in, d_in)`.

    $k$ runs over every token of the texts (Meng et al. 2022, arXiv:2202.05262, eq. 2). Texts go
    through the chat template as prompts do. The sum is taken in float64 on the CPU, pass by pass,
    and its result kept in the cache folder by the base's digest.

    Args:
        base: the base model; what is attached to it is left out of account.
        module: the path of a linear module.
        texts: plain texts.
        ridge: share of the mean eigenvalue that is added to every one.
    """
    name = json_digest([FORM, base.digest, module, list(texts), str(_dtype(base))])
    kept = cache_folder() / FORM / f"{name}.safetensors"
    moment = _read(kept, name)
    if moment is None:
        moment = _estimate(base, module, texts)
        _write(kept, name, moment)
    moment = moment.double()
    moment.diagonal().add_(ridge * moment.diagonal().mean())
    return moment


@torch.no_grad()
def _estimate(base: BaseModel, module: str, texts: Sequence[str]) -> Tensor:
    longest = min(MAX_TEXT_TOKENS, base.context_length)
    rows = [_cut(base, text, longest) for text in texts]
    total: Tensor | None = None
    n_tokens = 0
    for group in batches([len(row) for row in rows]):
        ids, mask = right_padded(base, [rows[i] for i in group])
        with _own_weights(base.model), capturing(base, module, side="input") as seen:
            base.model(input_ids=ids, attention_mask=mask, use_cache=False)
        keys = by_row(seen[-1], len(group))[mask.bool()].double().cpu()
        total = keys.T @ keys if total is None else total + keys.T @ keys
        n_tokens += len(keys)
    assert total is not None
    return (total / n_tokens).float()


@contextmanager
def _own_weights(model: nn.Module) -> Iterator[None]:
    """Let the model compute with the base's own weights, whatever is attached."""
    own = {id(parameter): (name, parameter) for name, parameter in model.named_parameters()}
    hidden = [
        own[id(parameter)]
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and effective(module, name) is not parameter
    ]
    with substituted(model, dict(hidden)):
        yield


def _cut(base: BaseModel, text: str, longest: int) -> list[int]:
    ids = base.tokenizer(text, verbose=False)["input_ids"]
    if len(ids) < longest // 2:
        ids = prompt_ids(base, text)
    return [int(i) for i in ids[:longest]]


def _dtype(base: BaseModel) -> torch.dtype:
    return next(base.model.parameters()).dtype


def _read(path: Path, name: str) -> Tensor | None:
    """Read what is kept; what is damaged is as good as not there."""
    try:
        packed = unpack(path.read_bytes(), forms=[FORM])
    except (OSError, MlflowEditError):
        return None
    return packed.tensors.get("moment") if packed.header == {"name": name} else None


def _write(path: Path, name: str, moment: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{id(moment)}.partial")
    partial.write_bytes(pack(Packed(FORM, {"name": name}, {"moment": moment})))
    partial.replace(path)
