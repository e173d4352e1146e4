"""Identify a base model by the digest of its weights and tokenizer, not by its name."""

import hashlib
import json
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.errors import IntegrityError, InvalidInputError, UnsupportedModel
from mlflow_edit.models.base_files import TOKENIZER_FILES

VOLATILE_CONFIG = (
    "_name_or_path",
    "_model_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
)
VOLATILE_TOKENIZER = ("is_local", "local_files_only", "name_or_path", "_name_or_path")


def base_digest(
    weights: Path, tokenizer: Path, *, progress: Callable[[int], None] | None = None
) -> str:
    """Return the digest of a model in Hugging Face layout.

    It is the sha-256 of both configurations (less their volatile fields), of every tensor in
    order of name (name, dtype, shape, bytes; however they are sharded) and of the tokenizer's
    files.

    Args:
        weights: the folder with `config.json` and `*.safetensors`.
        tokenizer: the folder with the tokenizer's files; often the same.
        progress: is told of every so many bytes read.

    Raises:
        UnsupportedModel: no safetensors weights in the folder.
        IntegrityError: a file is damaged.
    """
    sha = hashlib.sha256(b"mledit.base/1\n")
    sha.update(_configuration(weights, "config.json") + b"\n")
    if (weights / "generation_config.json").is_file():
        sha.update(_configuration(weights, "generation_config.json") + b"\n")
    files = sorted(weights.glob("*.safetensors"))
    if not files:
        raise UnsupportedModel(
            f"no *.safetensors weights in {weights}",
            hint="Save the model with save_pretrained: pickled weights are never loaded.",
        )
    _check_index(weights)
    tensors = [(tensor, file) for file in files for tensor in tensors_in(file)]
    for (name, dtype, shape, start, end), file in sorted(tensors):
        sha.update(canonical_json([name, dtype, shape]) + b"\n")
        _hash_range(sha, file, start, end, progress)
    for name in TOKENIZER_FILES:
        path = tokenizer / name
        if path.is_file():
            content = _tokenizer_file(path)
            sha.update(canonical_json([name, hashlib.sha256(content).hexdigest()]))
    return sha.hexdigest()


def _check_index(weights: Path) -> None:
    """Refuse whatever could make a loader read other files than the ones that are hashed.

    Raises:
        IntegrityError: an index that names a file elsewhere, or an adapter beside the weights.
    """
    if (weights / "adapter_config.json").exists():
        raise IntegrityError(f"{weights} holds an adapter beside the weights; merge it first")
    for index in weights.glob("*.index.json"):
        try:
            named = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"{index} is not an index of weights: {error}") from error
        if not named <= {file.name for file in weights.glob("*.safetensors")}:
            raise IntegrityError(f"{index} names files that are not beside it")


def _configuration(weights: Path, name: str) -> bytes:
    try:
        config = json.loads((weights / name).read_text("utf-8"))
        kept = {field: value for field, value in config.items() if field not in VOLATILE_CONFIG}
        return canonical_json(kept)
    except (OSError, ValueError, AttributeError, RecursionError, InvalidInputError) as error:
        raise UnsupportedModel(f"no readable {name} in {weights}: {error}") from error


def stored_types(weights: Path) -> frozenset[str]:
    """Return the safetensors dtypes of a model's tensors, without reading the tensors.

    Raises:
        IntegrityError: a file is damaged.
    """
    files = sorted(weights.glob("*.safetensors"))
    return frozenset(dtype for file in files for _, dtype, *_ in tensors_in(file))


def _tokenizer_file(path: Path) -> bytes:
    """Return the file, less what transformers notes in it about where it was loaded from."""
    data = path.read_bytes()
    if path.name != "tokenizer_config.json":
        return data
    try:
        fields = json.loads(data)
        return canonical_json({n: v for n, v in fields.items() if n not in VOLATILE_TOKENIZER})
    except (ValueError, AttributeError, RecursionError, InvalidInputError):
        return data


def tensors_in(file: Path) -> list[tuple[str, str, list[int], int, int]]:
    """List (name, dtype, shape, start, end) of the tensors in a safetensors file.

    Raises:
        IntegrityError: the file is damaged.
    """
    try:
        n_bytes = file.stat().st_size
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > n_bytes:
                raise ValueError("truncated")
            header = json.loads(stream.read(size))
        header.pop("__metadata__", None)
        return [_tensor(name, info, 8 + size, n_bytes) for name, info in header.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{file} is not a safetensors file: {error}") from error


def _tensor(
    name: str, info: dict[str, Any], offset: int, n_bytes: int
) -> tuple[str, str, list[int], int, int]:
    start, end = info["data_offsets"]
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError(f"the place of {name!r} is {[start, end]}")
    if offset + end > n_bytes:
        raise ValueError("truncated")
    return name, info["dtype"], info["shape"], offset + start, offset + end


def _hash_range(
    sha: "hashlib._Hash", file: Path, start: int, end: int, progress: Callable[[int], None] | None
) -> None:
    if start == end:
        return
    with (
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
        view[start:end] as part,
    ):
        sha.update(part)
    if progress:
        progress(end - start)
