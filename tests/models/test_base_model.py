"""Loading a base model: what is accepted, what is refused, and that nothing else is touched."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_edits import PROMPTS, codebook_at, edited_with
from tiny_models import FAMILIES, save_tiny, weights_hash

from mlflow_edit.errors import BaseMismatchError, IntegrityError, UnsupportedModel
from mlflow_edit.models.base_digest import base_digest
from mlflow_edit.models.base_files import find_base
from mlflow_edit.models.base_model import load_base, quiet_transformers
from mlflow_edit.models.prompts import prompt_ids


@pytest.fixture
def folder(tiny_bases: Any, tmp_path: Path) -> Path:
    return save_tiny(tiny_bases["llama"], tmp_path / "base")


@pytest.mark.parametrize("name", [*FAMILIES, "llama-chat"])
def test_a_saved_model_loads_as_it_was(tiny_bases: Any, tmp_path: Path, name: str) -> None:
    base = tiny_bases[name]
    folder = save_tiny(base, tmp_path)
    loaded = load_base(folder, digest=base_digest(folder, folder))
    assert type(loaded.model) is type(base.model)
    assert weights_hash(loaded.model) == weights_hash(base.model)
    assert loaded.task == base.task
    assert prompt_ids(loaded, "Who wrote it?") == prompt_ids(base, "Who wrote it?")
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_another_model_is_refused(folder: Path) -> None:
    with pytest.raises(BaseMismatchError, match="expected 0000") as caught:
        load_base(folder, digest="0" * 64)
    assert caught.value.exit_code == 7
    assert base_digest(folder, folder)[:12] in caught.value.message


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_a_model_placed_by_accelerate_is_edited_alike(
    folder: Path, device_map: Any, tiny_bases: Any
) -> None:
    placed = load_base(folder, device_map=device_map)
    plain = tiny_bases["llama"]
    placed.model.to(torch.float32)
    ids = torch.tensor([prompt_ids(plain, PROMPTS[0])])
    book = codebook_at(plain, PROMPTS, layer=1)
    with torch.no_grad():
        with edited_with(plain, book) as edited:
            expected = edited.model(input_ids=ids).logits
        with edited_with(placed, codebook_at(placed, PROMPTS, layer=1)) as edited:
            assert torch.equal(edited.model(input_ids=ids).logits, expected)


def test_hooks_of_accelerate_stay(folder: Path, tiny_bases: Any) -> None:
    from accelerate import dispatch_model

    base = load_base(folder)
    dispatch_model(base.model, {"": "cpu"}, force_hooks=True)
    block = base.model.get_submodule("model.layers.0")
    hooked = {path for path, module in base.model.named_modules() if "forward" in vars(module)}
    expected = codebook_at(tiny_bases["llama"], PROMPTS, layer=2)
    book = codebook_at(base, PROMPTS, layer=2)
    assert torch.equal(book.keys, expected.keys)
    assert hooked == {p for p, m in base.model.named_modules() if "forward" in vars(m)}
    assert block is base.model.get_submodule("model.layers.0")


@pytest.mark.parametrize(("dtype", "found"), [("bfloat16", torch.bfloat16), (None, torch.float32)])
def test_a_type_may_be_chosen(folder: Path, dtype: str | None, found: torch.dtype) -> None:
    assert next(load_base(folder, dtype=dtype).model.parameters()).dtype == found


def test_an_mlflow_model_is_found(folder: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    (stored / "components").mkdir(parents=True)
    shutil.copytree(folder, stored / "model", ignore=shutil.ignore_patterns("*tok*"))
    shutil.copytree(folder, stored / "components" / "tokenizer")
    found = find_base(stored)
    assert (found.weights, found.tokenizer) == (
        stored / "model",
        stored / "components" / "tokenizer",
    )
    assert load_base(stored).digest == base_digest(folder, folder)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer"])
def test_a_folder_without_its_parts_is_no_model(folder: Path, missing: str) -> None:
    for file in folder.glob(f"{missing}*"):
        file.unlink()
    with pytest.raises(UnsupportedModel, match="holds no model") as caught:
        load_base(folder)
    assert "save_pretrained" in str(caught.value.hint)


def test_a_folder_that_is_not_there_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel):
        load_base(tmp_path / "nowhere")


def test_pickled_weights_are_never_loaded(folder: Path, tiny_bases: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny_bases["llama"].model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="safetensors"):
        load_base(folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(IntegrityError):
        load_base(folder)


def test_missing_tensors_are_refused_not_made_up(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"model\.norm\.weight"):
        load_base(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "no-such-type"},
        {"hidden_size": 48},
        {"architectures": ["Mystery"], "model_type": "x"},
        {
            "model_type": "x",
            "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
        },
    ],
)
def test_what_transformers_cannot_load_is_refused(folder: Path, change: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    (folder / "code.py").write_text("raise SystemExit('code of an artifact was run')")
    with pytest.raises(UnsupportedModel, match="transformers cannot load"):
        load_base(folder)


def test_a_tokenizer_without_padding_gets_some(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = folder / name
        if file.exists():
            fields = json.loads(file.read_text())
            fields.pop("pad_token", None)
            file.write_text(json.dumps(fields))
    loaded = load_base(folder)
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_threads_that_are_quiet_at_once_leave_no_trace(first_to_leave: int) -> None:
    from transformers.utils import logging

    def settings() -> Any:
        return logging.get_verbosity(), logging.is_progress_bar_enabled(), list(warnings.filters)

    before = settings()
    both = [quiet_transformers(), quiet_transformers()]
    for one in both:
        one.__enter__()
    both.pop(first_to_leave).__exit__(None, None, None)
    assert logging.get_verbosity() == logging.ERROR
    assert warnings.filters[0][0] == "ignore"
    both.pop().__exit__(None, None, None)
    assert settings() == before
