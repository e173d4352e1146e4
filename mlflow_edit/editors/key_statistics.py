"""The second moment of a layer's keys: what an edit of its weights has to leave alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from torch import Tensor, nn

from mlflow_edit.core.digest import json_digest
from mlflow_edit.errors import InvalidParams, MlflowEditError
from mlflow_edit.models.activations import readings
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.cache import cache_folder
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.patches.format import Packed, pack, unpack
from mlflow_edit.patches.substitution import effective, substituted

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


def second_moments(
    base: BaseModel, modules: Sequence[str], texts: Sequence[str], *, ridge: float = 0.0
) -> dict[str, Tensor]:
    r"""Estimate $C = \mathbb{E}[k k^\top]$ of what linear modules are given, `(d_in, d_in)` each.

    $k$ runs over every token of the texts (Meng et al. 2022, arXiv:2202.05262, eq. 2). Texts go
    through the chat template as prompts do. The sum is taken in float64 on the CPU, pass by pass,
    and its result kept in the cache folder by the base's digest.

    Args:
        base: the base model; what is attached to it is left out of account.
        modules: paths of linear modules.
        texts: plain texts.
        ridge: share of the mean eigenvalue that is added to every one.
    """
    names = {module: _name(base, module, texts) for module in modules}
    found = {module: _read(name) for module, name in names.items()}
    missing = [module for module, moment in found.items() if moment is None]
    for module, moment in (_estimate(base, missing, texts) if missing else {}).items():
        _write(names[module], moment)
        found[module] = moment
    return {
        module: _ridged(moment, ridge) for module, moment in found.items() if moment is not None
    }


def _ridged(moment: Tensor, ridge: float) -> Tensor:
    moment = moment.double()
    moment.diagonal().add_(ridge * moment.diagonal().mean())
    return moment


@torch.no_grad()
def _estimate(base: BaseModel, modules: Sequence[str], texts: Sequence[str]) -> dict[str, Tensor]:
    longest = min(MAX_TEXT_TOKENS, base.context_length)
    rows = [_cut(base, text, longest) for text in texts]
    totals: dict[str, Tensor] = {}
    with _own_weights(base.model):
        for group, read in readings(base, modules, rows, side="input"):
            for module, given in read.items():
                keys = torch.cat([given[row, : len(rows[i])] for row, i in enumerate(group)])
                keys = keys.double().cpu()
                square = keys.T @ keys
                totals[module] = totals[module] + square if module in totals else square
    n_tokens = sum(map(len, rows))
    return {module: (total / n_tokens).float() for module, total in totals.items()}


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


def _name(base: BaseModel, module: str, texts: Sequence[str]) -> str:
    dtype = str(next(base.model.parameters()).dtype)
    return json_digest([FORM, base.digest, module, list(texts), dtype])


def _place(name: str) -> Path:
    return cache_folder() / FORM / f"{name}.safetensors"


def _read(name: str) -> Tensor | None:
    """Read what is kept; what is damaged is as good as not there."""
    try:
        packed = unpack(_place(name).read_bytes(), forms=[FORM])
    except (OSError, MlflowEditError):
        return None
    return packed.tensors.get("moment") if packed.header == {"name": name} else None


def _write(name: str, moment: Tensor) -> None:
    path = _place(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, delete=False) as partial:
        partial.write(pack(Packed(FORM, {"name": name}, {"moment": moment})))
    Path(partial.name).replace(path)
