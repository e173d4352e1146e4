"""A base model in memory: weights, tokenizer and the digest that identifies them."""

import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlflow_edit.errors import BaseMismatchError, UnsupportedModel
from mlflow_edit.models.architecture import Task, task_of
from mlflow_edit.models.base_digest import base_digest, stored_types
from mlflow_edit.models.base_files import BaseFolders, find_base
from mlflow_edit.patches.scope import Encoder
from mlflow_edit.patches.tensor_bytes import DTYPES, FLOATS

_NO_FLOATS = frozenset({"BOOL", "U8", "I8", "I16", "I32", "I64"})
HOLDS = {
    torch.float32: _NO_FLOATS | {"F32", "F16", "BF16"},
    torch.float16: _NO_FLOATS | {"F16"},
    torch.bfloat16: _NO_FLOATS | {"BF16"},
}
"""The stored types that a model of some type holds exactly."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A loaded base model. Nothing in this package ever changes its parameters."""

    model: nn.Module
    tokenizer: Any
    digest: str
    encoders: Callable[[str], Encoder] | None = None  # where its registry keeps sentence encoders
    rounded: bool = False  # loaded in a type that does not hold every stored weight exactly
    stored: torch.dtype | None = None  # the checkpoint's type of floats, where it is only one

    @property
    def task(self) -> Task:
        """What the model does."""
        return task_of(self.model)

    @property
    def device(self) -> torch.device:
        """Where token ids must be put."""
        return next(self.model.parameters()).device

    @property
    def context_length(self) -> int:
        """The most tokens that the model can read."""
        config: Any = self.model.config
        limits = [
            getattr(config, name, None)
            for name in ("max_position_embeddings", "n_positions", "max_sequence_length")
        ]
        known = [limit for limit in limits if isinstance(limit, int) and limit > 0]
        return min(known) if known else int(self.tokenizer.model_max_length)


def load_base(
    folder: Path,
    *,
    digest: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    device_map: Any = None,
) -> BaseModel:
    """Load a base model and verify that it is the one expected.

    Args:
        folder: a Hugging Face folder or a downloaded MLflow transformers model.
        digest: what `base_digest` must give; None accepts any.
        device: `cpu`, `cuda:0` …; None takes a GPU where there is one.
        dtype: `float32`, `bfloat16`, `float16`; None means float32 on the CPU and the
            checkpoint's own type elsewhere.
        device_map: passed to transformers; overrides `device`.

    Raises:
        BaseMismatchError: the folder holds another model.
        UnsupportedModel: transformers cannot load it, or it has no safetensors weights.
    """
    folders = find_base(folder)
    actual = base_digest(folders.weights, folders.tokenizer)
    if digest is not None and digest != actual:
        raise BaseMismatchError(
            f"the base model in {folder} has digest {actual[:12]}, expected {digest[:12]}",
            hint="Edits hold for one base model only. Was it fine-tuned, converted or replaced?",
        )
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = dtype or ("float32" if device == "cpu" and device_map is None else "auto")
    with quiet_transformers():
        model, tokenizer = _load(folders, chosen, device_map)
    if device_map is None:
        model = model.to(device)
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    held = HOLDS.get(next(model.parameters()).dtype, frozenset())
    types = stored_types(folders.weights)
    floats = [dtype for dtype in FLOATS if DTYPES[dtype] in types]
    stored = floats[0] if len(floats) == 1 else None
    return BaseModel(model, tokenizer, actual, rounded=not types <= held, stored=stored)


def _load(folders: BaseFolders, dtype: str, device_map: Any) -> tuple[nn.Module, Any]:
    import transformers

    try:
        model, report = auto_class(folders.weights).from_pretrained(
            folders.weights,
            dtype=dtype,
            device_map=device_map,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folders.tokenizer, trust_remote_code=False
        )
    except Exception as error:
        said = f"transformers cannot load {folders.weights}: {type(error).__name__}: {error}"
        raise UnsupportedModel(said) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise UnsupportedModel(
            f"{folders.weights} lacks {len(missing)} of the model's tensors: {missing[0]} …",
            hint="They would be random. Save the whole model with save_pretrained.",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return model, tokenizer


def auto_class(weights: Path) -> Any:
    """Return the class of transformers that loads a stored model for its task."""
    import transformers

    name = _architecture(weights)
    if name.endswith("ForSequenceClassification"):
        return transformers.AutoModelForSequenceClassification
    if name.endswith("ForConditionalGeneration"):
        return transformers.AutoModelForSeq2SeqLM
    return transformers.AutoModelForCausalLM


def _architecture(weights: Path) -> str:
    config = json.loads((weights / "config.json").read_text("utf-8"))  # digested before: an object
    named = config.get("architectures") or [""]
    return named[0] if isinstance(named, list) and isinstance(named[0], str) else ""


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and advice out of our output.

    Both are settings of the process: of several threads the last one to leave puts them back.
    """
    global _n_quiet
    with _quiet_lock:
        if not _n_quiet:
            _kept.enter_context(_quieted())
        _n_quiet += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _n_quiet -= 1
            if not _n_quiet:
                _kept.close()


_quiet_lock, _n_quiet, _kept = threading.Lock(), 0, ExitStack()


@contextmanager
def _quieted() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
