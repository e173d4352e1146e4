"""A base model is named by weights, tokenizer and configuration, however they are stored."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny

from mlflow_edit.errors import IntegrityError, UnsupportedModel
from mlflow_edit.models.base_digest import base_digest


@pytest.fixture(scope="module")
def saved(tiny_bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tiny_bases["llama-chat"], tmp_path_factory.mktemp("saved") / "base")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "base"))


def test_sharding_does_not_matter(tiny_bases: Any, saved: Path, tmp_path: Path) -> None:
    sharded = save_tiny(tiny_bases["llama-chat"], tmp_path / "s", max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert base_digest(sharded, sharded) == base_digest(saved, saved)


def test_saving_again_gives_the_same_digest(saved: Path, tmp_path: Path) -> None:
    from mlflow_edit.models.base_model import load_base

    again = save_tiny(load_base(saved), tmp_path / "again")
    assert base_digest(again, again) == base_digest(saved, saved)


def test_the_path_and_the_transformers_version_do_not_matter(folder: Path, saved: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(transformers_version="4.0.0", _name_or_path="elsewhere", torch_dtype="float32")
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "README.md").write_text("words")
    assert base_digest(folder, folder) == base_digest(saved, saved)


def test_one_bit_of_one_weight_matters(folder: Path, saved: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert base_digest(folder, folder) != base_digest(saved, saved)


@pytest.mark.parametrize("change", ["rename", "reshape", "retype", "drop", "add"])
def test_names_shapes_and_types_of_tensors_matter(folder: Path, saved: Path, change: str) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    norm = tensors["model.norm.weight"]
    changes: dict[str, dict[str, torch.Tensor | None]] = {
        "rename": {"model.norm.weight": None, "model.norm.other": norm},
        "reshape": {"model.norm.weight": norm[None].clone()},
        "retype": {"model.norm.weight": norm.view(torch.int32)},
        "drop": {"model.norm.weight": None},
        "add": {"model.norm.bias": norm.clone()},
    }
    changed = {**tensors, **changes[change]}
    save_file({name: t for name, t in changed.items() if t is not None}, file)
    assert base_digest(folder, folder) != base_digest(saved, saved)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"]
)
def test_every_file_of_tokenizer_and_configuration_matters(
    folder: Path, saved: Path, name: str
) -> None:
    file = folder / name
    if name in ("config.json", "tokenizer_config.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "another_field": 0.5}))
    else:
        file.write_text(file.read_text() + " ")
    assert base_digest(folder, folder) != base_digest(saved, saved)
    if name == "chat_template.jinja":
        file.unlink()
        assert base_digest(folder, folder) != base_digest(saved, saved)


def test_a_tokenizer_may_lie_elsewhere(folder: Path, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "tokenizer"
    other.mkdir()
    for file in folder.glob("*tok*"):
        shutil.move(file, other)
    shutil.move(folder / "chat_template.jinja", other)
    assert base_digest(folder, other) == base_digest(saved, saved)


def test_progress_counts_every_byte_of_weights(saved: Path) -> None:
    told: list[int] = []
    base_digest(saved, saved, progress=told.append)
    tensors = load_file(saved / "model.safetensors").values()
    assert sum(told) == sum(t.numel() * t.element_size() for t in tensors)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="safetensors") as caught:
        base_digest(folder, folder)
    assert "pickled" in str(caught.value.hint)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1, -1000, 0.5])
def test_truncated_weights_are_refused(folder: Path, kept: float) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(IntegrityError):
        base_digest(folder, folder)


@pytest.mark.parametrize(
    "header",
    [b"not json", b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [1]}}', b"\xff\xfe",
     b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}',
     b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
     b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}',
     b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.5]}}',
     b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}',
     b"[" * 100_000],
)  # fmt: skip
def test_malformed_weights_are_refused(folder: Path, header: bytes) -> None:
    data = len(header).to_bytes(8, "little") + header + b"\0" * 64
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(IntegrityError):
        base_digest(folder, folder)


@pytest.mark.parametrize("text", [None, "", "[]", "{", '"x"', '{"a": NaN}'])
def test_an_unreadable_configuration_is_refused(folder: Path, text: str | None) -> None:
    if text is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(text)
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        base_digest(folder, folder)
