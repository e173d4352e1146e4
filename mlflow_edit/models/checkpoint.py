"""A stored model on disk, read and rewritten tensor by tensor: it is never in memory whole."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor, nn

from mlflow_edit.errors import IntegrityError, UnsupportedModel
from mlflow_edit.models.base_digest import tensors_in
from mlflow_edit.models.base_files import find_base
from mlflow_edit.models.base_model import auto_class, quiet_transformers
from mlflow_edit.patches.tensor_bytes import DTYPES, tensor_bytes

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CHUNK = 16 * 1024 * 1024
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


class Place(NamedTuple):
    """Where a tensor lies: its file, dtype and shape, and the bytes from `start` to `end`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Checkpoint:
    """The weight files that transformers loads from a folder; others beside them are left alone.

    Args:
        folder: a Hugging Face folder or a downloaded MLflow transformers model.

    Raises:
        UnsupportedModel: it holds no safetensors weights under their usual names.
        IntegrityError: a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.weights = find_base(folder).weights
        self.files = _weight_files(self.weights)
        self._places = {
            name: Place(file, dtype, tuple(shape), start, end)
            for file in self.files
            for name, dtype, shape, start, end in tensors_in(file)
        }

    def read(self, name: str) -> Tensor:
        """Read one tensor, by its name in the files.

        Raises:
            UnsupportedModel: it is of a type that cannot be edited (a quantised one).
        """
        place = self._places[name]
        with place.file.open("rb") as stream:
            stream.seek(place.start)
            return _tensor(stream.read(place.end - place.start), place, name)

    def names_of(self, model: nn.Module, parameters: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Find under which names parameters are stored: tied ones may be there several times.

        Args:
            model: the model, or its `outline`.
            parameters: canonical names.

        Raises:
            UnsupportedModel: one is not stored as the model has it.
        """
        aliases: dict[int, list[str]] = {}
        known = dict(model.named_parameters(remove_duplicate=False))
        for name, parameter in known.items():
            aliases.setdefault(id(parameter), []).append(name)
        prefix = str(getattr(model, "base_model_prefix", "")) + "."
        found: dict[str, tuple[str, ...]] = {}
        for name in parameters:
            shape = tuple(known[name].shape) if name in known else None
            tried = [
                text
                for alias in aliases.get(id(known.get(name)), [name])
                for text in (alias, alias.removeprefix(prefix), prefix + alias)
            ]
            stored = {t for t in tried if t in self._places and self._places[t].shape == shape}
            if not stored:
                raise UnsupportedModel(
                    f"{self.weights} does not store {name!r} as the model has it",
                    hint="Load the version with mlflow_edit.load and save it in another way.",
                )
            found[name] = tuple(sorted(stored))
        return found

    def copy(self, target: Path, edited: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        """Copy the weight files, each under its name, and the index where there is one.

        Args:
            target: a folder.
            edited: for tensors, by their names in the files, what they are turned into; dtype and
                shape stay.

        Raises:
            IntegrityError: a file did not arrive as it was written.
        """
        for file in self.files:
            mine = [n for n, place in self._places.items() if place.file == file and n in edited]
            mine.sort(key=lambda name: self._places[name].start)
            written = self._copy_file(file, target / file.name, mine, edited)
            with (target / file.name).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != written:
                    raise IntegrityError(f"{target / file.name} is not what was written to it")
        if (self.weights / INDEX).is_file():
            (target / INDEX).write_bytes((self.weights / INDEX).read_bytes())

    def _copy_file(
        self,
        source: Path,
        target: Path,
        names: list[str],
        edited: Mapping[str, Callable[[Tensor], Tensor]],
    ) -> str:
        sha = hashlib.sha256()
        with source.open("rb") as stream, target.open("wb") as out:
            for name in names:
                place = self._places[name]
                _pass(stream, out, sha, place.start - stream.tell())
                old = _tensor(stream.read(place.end - place.start), place, name)
                new = edited[name](old)
                if new.dtype != old.dtype or new.shape != old.shape:
                    raise IntegrityError(f"{name} became {new.dtype} {tuple(new.shape)}")
                data = tensor_bytes(new).data
                sha.update(data)
                out.write(data)
            _pass(stream, out, sha, source.stat().st_size - stream.tell())
            out.flush()
            os.fsync(out.fileno())
        return sha.hexdigest()


def outline(weights: Path) -> nn.Module:
    """Build a stored model without its weights: names, shapes, modules and what is tied to what.

    Raises:
        UnsupportedModel: transformers cannot build it.
    """
    import transformers

    try:
        with quiet_transformers(), torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(weights, trust_remote_code=False)
            model: nn.Module = auto_class(weights).from_config(config, trust_remote_code=False)
            model.tie_weights()  # type: ignore[operator]
    except Exception as error:
        said = f"transformers cannot build {weights}: {type(error).__name__}: {error}"
        raise UnsupportedModel(said) from error
    return model


def _weight_files(weights: Path) -> list[Path]:
    if (weights / SINGLE).is_file():
        return [weights / SINGLE]
    if not (weights / INDEX).is_file():
        raise UnsupportedModel(
            f"no {SINGLE} and no {INDEX} in {weights}",
            hint="Save the model with save_pretrained.",
        )
    named = json.loads((weights / INDEX).read_text("utf-8"))["weight_map"].values()
    return [weights / name for name in sorted(set(named))]


def _tensor(data: bytes, place: Place, name: str) -> Tensor:
    if place.dtype not in _BY_NAME:
        raise UnsupportedModel(f"{name} is stored as {place.dtype}, which cannot be edited")
    if not data:
        return torch.zeros(place.shape, dtype=_BY_NAME[place.dtype])
    return torch.frombuffer(bytearray(data), dtype=_BY_NAME[place.dtype]).reshape(place.shape)


def _pass(source: BinaryIO, target: BinaryIO, sha: "hashlib._Hash", n_bytes: int) -> None:
    """Copy so many bytes, and hash them."""
    while n_bytes > 0:
        data = source.read(min(n_bytes, CHUNK))
        if not data:
            raise IntegrityError("a weight file ended before its time")
        sha.update(data)
        target.write(data)
        n_bytes -= len(data)
