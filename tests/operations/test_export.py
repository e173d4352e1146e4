"""Plain models and adapters: what is written computes what the version computes, with no plug-in."""

import json
from pathlib import Path
from typing import Any

import mlflow
import peft
import pytest
import torch
from deltas import delta_batch, dense, low_rank, publish_batch, sparse
from registry_fixtures import hand_made_batch
from safetensors import safe_open
from tiny_edits import PROMPTS
from tiny_models import save_tiny, tiny_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlflow_edit import MemoryRegistry, MlflowRegistry, export, init, load
from mlflow_edit.errors import DigestMismatch, InvalidInputError, RegistryError, UnsupportedModel
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models import checkpoint
from mlflow_edit.models.checkpoint import Checkpoint, outline
from mlflow_edit.patches.changes import Change
from mlflow_edit.registry.registry import Registry

DOWN, UP = "model.layers.1.mlp.down_proj.weight", "model.layers.2.mlp.up_proj.weight"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


@pytest.fixture(params=["memory", "sqlite"])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        return MemoryRegistry()
    found: Registry = request.getfixturevalue("sqlite_registry")
    return found


def version(
    registry: Registry, folder: Path, make: Any, *, name: str = "m", seeds: tuple[int, ...] = (0,)
) -> str:
    """Register a base and a version of it for each seed; return a reference to the last."""
    root = init(name, base=str(folder), registry=registry)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    at = 1
    for seed in seeds:
        changes: list[Change] = make(model, seed)
        stored = delta_batch(root.base.digest, changes, [(f"Where is {seed}?", "Oslo")])
        at = publish_batch(registry, f"{name}@{at}", stored).version
    return f"{name}@{at}"


def logits(model: Any, tokenizer: Any) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model(**tokenizer(prompt, return_tensors="pt")).logits for prompt in PROMPTS]


def wanted(registry: Registry, ref: str, **options: Any) -> list[torch.Tensor]:
    with load(ref, registry=registry, device="cpu", **options) as edited:
        return logits(edited.model, edited.tokenizer)


def every_kind(model: Any, seed: int) -> list[Change]:
    return [
        low_rank(model, DOWN, seed=seed, rank=2, scale=0.5),
        sparse(model, UP, seed=seed),
        dense(model, NORM, seed=seed),
        *([sparse(model, EMBEDDING, seed=seed)] if seed else []),
    ]


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_a_merged_model_is_the_version(registry: Registry, tmp_path: Path, name: str) -> None:
    folder = save_tiny(tiny_base(name), tmp_path / "base")
    ref = version(registry, folder, every_kind, seeds=(0, 1))
    made = export(ref, tmp_path / "out", form="merged", registry=registry)
    assert (made.form, made.registered) == ("merged", None)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for mine, theirs in zip(logits(plain, tokenizer), wanted(registry, ref), strict=True):
        assert torch.equal(mine, theirs)
    origin = json.loads((tmp_path / "out" / "mledit.json").read_text())
    manifest = registry.manifest(registry.versions("m")[-1])
    assert (origin["digest"], origin["weights"]) == (manifest.digest, manifest.weights)
    with pytest.raises(InvalidInputError, match="exists"):
        export(ref, tmp_path / "out", form="merged", registry=registry)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shards_stay_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    base = tiny_base("llama", seed=3)
    base.model.to(dtype)
    folder = save_tiny(base, tmp_path / "base", max_shard_size="60KB")
    shards = sorted(file.name for file in folder.glob("*.safetensors"))
    assert len(shards) > 2
    registry = MemoryRegistry()
    ref = version(registry, folder, every_kind, seeds=(1,))
    export(ref, tmp_path / "out", form="merged", registry=registry)
    out = tmp_path / "out"
    assert sorted(file.name for file in out.glob("*.safetensors")) == shards
    index = "model.safetensors.index.json"
    assert (out / index).read_bytes() == (folder / index).read_bytes()
    touched = {DOWN, UP, NORM, EMBEDDING}
    with load(ref, registry=registry, device="cpu", dtype=str(dtype)[6:]) as edited:
        expected = edited.composition.weights.materialised(edited.model).tensors
    for shard in shards:
        with safe_open(folder / shard, "pt") as old, safe_open(out / shard, "pt") as new:
            assert (old.metadata(), list(old.keys())) == (new.metadata(), list(new.keys()))
            for key in old.keys():  # noqa: SIM118
                before, after = old.get_tensor(key), new.get_tensor(key)
                assert after.dtype == dtype
                assert torch.equal(after, expected[key] if key in touched else before), key


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny(tiny_base("llama"), tmp_path / "base", max_shard_size="60KB")
    alive, most = [0], [0]
    read = checkpoint._tensor

    class Counted(bytearray):
        def __del__(self) -> None:
            alive[0] -= 1

    def counting(data: bytes, place: Any, name: str) -> torch.Tensor:
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        kept = Counted(data)
        return torch.frombuffer(kept, dtype=read(data, place, name).dtype).reshape(place.shape)

    registry = MemoryRegistry()
    model: Any = tiny_base("llama").model
    names = [name for name, one in model.named_parameters() if one.ndim == 2]
    assert len(names) > 20
    ref = version(registry, folder, lambda m, s: [low_rank(m, n) for n in names])
    monkeypatch.setattr(checkpoint, "_tensor", counting)
    export(ref, tmp_path / "out", form="merged", registry=registry)
    assert 1 <= most[0] <= 3


def test_a_gpt2_checkpoint_without_prefix(tmp_path: Path) -> None:
    base = tiny_base("gpt2")
    folder = tmp_path / "base"
    base.model.transformer.save_pretrained(folder)  # type: ignore[union-attr, operator]
    base.model.config.save_pretrained(folder)  # type: ignore[union-attr, operator]
    base.tokenizer.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as stored:
        assert "h.0.mlp.c_fc.weight" in set(stored.keys())
    path, tied = "transformer.h.1.mlp.c_fc.weight", "transformer.wte.weight"
    registry = MemoryRegistry()
    ref = version(registry, folder, lambda m, s: [low_rank(m, path), sparse(m, tied)])
    export(ref, tmp_path / "out", form="merged", registry=registry)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for mine, theirs in zip(logits(plain, base.tokenizer), wanted(registry, ref), strict=True):
        assert torch.equal(mine, theirs)


def test_what_cannot_be_merged_is_refused(registry: Registry, tmp_path: Path) -> None:
    folder = save_tiny(tiny_base("llama"), tmp_path / "base")
    root = init("m", base=str(folder), registry=registry)
    publish_batch(registry, "m@1", hand_made_batch(root.base.digest, [("Who?", "Ada")], width=64))
    for form in ("merged", "lora"):
        with pytest.raises(InvalidInputError, match="codebooks") as refused:
            export("m@2", tmp_path / "out", form=form, registry=registry)  # type: ignore[arg-type]
        assert "packed" in (refused.value.hint or "")
    with pytest.raises(InvalidInputError, match="no form"):
        export("m@1", tmp_path / "out", form="onnx", registry=registry)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="only a merged"):
        export("m@1", tmp_path / "out", register="plain", registry=registry)
    with pytest.raises(InvalidInputError, match="no weights"):
        export("m@1", tmp_path / "out", form="lora", registry=registry)
    assert [path.name for path in tmp_path.glob("*out*")] == []


def test_the_root_version_merged_is_its_base(tmp_path: Path) -> None:
    folder = save_tiny(tiny_base("llama"), tmp_path / "base")
    registry = MemoryRegistry()
    init("m", base=str(folder), registry=registry)
    export("m@1", tmp_path / "out", form="merged", registry=registry)
    old, new = (path / "model.safetensors" for path in (folder, tmp_path / "out"))
    assert old.read_bytes() == new.read_bytes()


def test_nothing_is_left_of_an_export_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tiny_base("llama"), tmp_path / "base")
    registry = MemoryRegistry()
    ref = version(registry, folder, every_kind)
    with monkeypatch.context() as patch:
        patch.setattr(
            Checkpoint, "names_of", lambda self, model, names: dict.fromkeys(names, (UP,))
        )
        with pytest.raises(Exception, match=r"shape|digest|weight"):
            export(ref, tmp_path / "out", form="merged", registry=registry)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(DigestMismatch, match="base model"):
        export(ref, tmp_path / "out", form="merged", registry=registry)
    assert [path.name for path in tmp_path.glob("*out*")] == []


def test_a_parameter_that_is_not_stored_as_the_model_has_it(tmp_path: Path) -> None:
    folder = save_tiny(tiny_base("llama"), tmp_path / "base")
    with pytest.raises(UnsupportedModel, match="does not store"):
        Checkpoint(folder).names_of(outline(folder), ["model.layers.9.mlp.weight"])


# LoRA


def linears(model: Any, seed: int) -> list[Change]:
    """Changes of several ranks, two of them of one weight."""
    return [
        low_rank(model, DOWN, seed=seed, rank=2, scale=0.5),
        low_rank(model, DOWN, seed=seed + 50),
        low_rank(model, UP, seed=seed, rank=1),
        low_rank(model, "model.layers.0.self_attn.q_proj.weight", seed=seed, rank=3),
    ]


def conv1ds(model: Any, seed: int) -> list[Change]:
    names = ["transformer.h.1.mlp.c_fc.weight", "transformer.h.2.attn.c_proj.weight"]
    return [low_rank(model, name, seed=seed, rank=i + 1) for i, name in enumerate(names)]


@pytest.mark.parametrize(("name", "make"), [("llama", linears), ("gpt2", conv1ds)])
def test_an_adapter_on_the_base_is_the_version(
    registry: Registry, tmp_path: Path, name: str, make: Any
) -> None:
    folder = save_tiny(tiny_base(name), tmp_path / "base")
    ref = version(registry, folder, make, seeds=(0, 1))
    made = export(ref, tmp_path / "out", form="lora", registry=registry)
    assert made.n_files == 3
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    before = logits(base, AutoTokenizer.from_pretrained(folder))
    model = peft.PeftModel.from_pretrained(base, str(tmp_path / "out"))
    found = logits(model, AutoTokenizer.from_pretrained(folder))
    for mine, theirs, old in zip(found, wanted(registry, ref), before, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(theirs, old, atol=1e-2)
    merged = model.merge_and_unload()
    found = logits(merged, AutoTokenizer.from_pretrained(folder))
    for mine, theirs in zip(found, wanted(registry, ref), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_what_no_adapter_can_hold_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tiny_base("llama"), tmp_path / "base")
    for i, make in enumerate([dense, sparse]):
        registry = MemoryRegistry()
        ref = version(registry, folder, lambda m, s, make=make: [make(m, DOWN)], name=f"m{i}")
        with pytest.raises(UnsupportedModel, match="LoRA cannot hold") as refused:
            export(ref, tmp_path / "out", form="lora", registry=registry)
        assert "merged" in (refused.value.hint or "")
    registry = MemoryRegistry()
    ref = version(registry, folder, lambda m, s: [low_rank(m, EMBEDDING)])
    with pytest.raises(UnsupportedModel, match="Embedding"):
        export(ref, tmp_path / "out", form="lora", registry=registry)


# MLflow


def test_a_merged_model_is_registered_with_no_flavor_of_ours(
    sqlite_registry: MlflowRegistry, tmp_path: Path
) -> None:
    registry = sqlite_registry
    folder = save_tiny(tiny_base("llama"), tmp_path / "base")
    ref = version(registry, folder, linears)
    made = export(ref, tmp_path / "out", form="merged", register="plain", registry=registry)
    assert made.registered == "plain@1"
    assert "mlflow_edit" not in (tmp_path / "out" / "config.json").read_text()
    parts = mlflow.transformers.load_model("models:/plain/1", return_type="components")
    found = logits(parts["model"].float().cpu(), parts["tokenizer"])
    for mine, theirs in zip(found, wanted(registry, ref), strict=True):
        torch.testing.assert_close(mine, theirs)
    stored = registry.client.get_model_version("plain", "1")
    assert stored.tags["mledit.source"] == ref
    run = registry.client.get_run(stored.run_id)
    inputs = {one.model_id for one in run.inputs.model_inputs}
    assert registry.versions("m")[-1].model_id in inputs
    flavors = mlflow.models.get_model_info("models:/plain/1").flavors
    assert set(flavors) == {"transformers", "python_function"}
    assert "mlflow_edit" not in json.dumps(flavors, default=str)
    served = mlflow.pyfunc.load_model("models:/plain/1")
    assert len(served.predict([PROMPTS[0]], params={"max_new_tokens": 3})) == 1
    again = export(ref, tmp_path / "out2", form="merged", register="plain", registry=registry)
    assert again.registered == "plain@2"
    with pytest.raises(InvalidInputError, match="edited model"):
        export(ref, tmp_path / "out3", form="merged", register="m", registry=registry)
    assert registry.models() == ["m"]


def test_a_registered_chat_model_is_served_with_messages(
    sqlite_registry: MlflowRegistry, tmp_path: Path
) -> None:
    folder = save_tiny(tiny_base("llama-chat"), tmp_path / "base")
    ref = version(sqlite_registry, folder, linears)
    export(ref, tmp_path / "out", form="merged", register="plain", registry=sqlite_registry)
    asked = {"messages": [{"role": "user", "content": PROMPTS[0]}]}
    served = mlflow.pyfunc.load_model("models:/plain/1")
    (answer,) = served.predict({**asked, "max_tokens": 1, "do_sample": False})
    with load(ref, registry=sqlite_registry) as edited:
        wanted_text = generate_answers(edited, [PROMPTS[0]], max_new_tokens=1)[0].text
    assert answer["choices"][0]["message"]["content"].strip() == wanted_text.strip()


def test_a_store_of_edited_models_only_says_so(tmp_path: Path) -> None:
    folder = save_tiny(tiny_base("llama"), tmp_path / "base")
    registry = MemoryRegistry()
    init("m", base=str(folder), registry=registry)
    with pytest.raises(RegistryError, match="edited models only"):
        export("m@1", tmp_path / "out", form="merged", register="plain", registry=registry)
