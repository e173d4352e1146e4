"""Exporting, merging and rebasing weight deltas from the command line."""

from pathlib import Path
from typing import Any

from deltas import delta_batch, low_rank, publish_batch
from tiny_models import save_tiny, tiny_base

from cli.conftest import Mledit
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.pinned_base import load_pinned

DOWN = "model.layers.1.mlp.down_proj.weight"
Q = "-q"


def test_deltas_are_merged_and_exported(
    mledit: Mledit, model: str, tmp_path: Path, suite_file: Path
) -> None:
    registry = MlflowRegistry()
    base = registry.manifest(registry.versions(model)[0]).base
    network: Any = load_pinned(registry, base).model
    for seed in (1, 2):
        stored = delta_batch(
            base.digest, [low_rank(network, DOWN, seed=seed)], [(f"Q{seed}?", "x")]
        )
        publish_batch(registry, "m@1", stored)
    tried = mledit("merge", "m@2", "m@3", "--try", "all", "--suite", suite_file, Q)
    assert tried.code == 0, tried.err
    assert [name in tried.out for name in ("sum", "ties", "nullspace")] == [True] * 3
    made = mledit(
        "merge", "m@2", "m@3", "--strategy", "dare", "--seed", "3", "--no-measure", Q, "--json"
    )
    assert made.code == 0, made.err
    assert made.json["merging"]["strategy"] == "dare"
    assert made.json["merging"]["seed"] == 3
    assert mledit("merge", "m@2", "m@3", "--strategy", "ties", "--seed", "3", Q).code == 2
    out = mledit(
        "export", "m@4", tmp_path / "out", "--as", "merged", "--register", "p", Q, "--json"
    )
    assert out.code == 0, out.err
    assert (out.json["form"], out.json["registered"]) == ("merged", "p@1")
    lora = mledit("export", "m@2", tmp_path / "lora", "--as", "lora", Q)
    assert "PeftModel.from_pretrained" in lora.out
    other = save_tiny(tiny_base("llama-chat", seed=5), tmp_path / "other")
    same = mledit("rebase", "m@1", "--onto", other, Q)
    assert (same.code, "no edits" in same.err) == (2, True)


def test_show_says_which_deltas_are_contextual(mledit: Mledit, model: str) -> None:
    registry = MlflowRegistry()
    base = registry.manifest(registry.versions(model)[0]).base
    network: Any = load_pinned(registry, base).model
    missing = delta_batch(base.digest, [low_rank(network, DOWN, seed=1)])
    stored = delta_batch(
        base.digest,
        [low_rank(network, DOWN, seed=2)],
        [("Q?", "x")],
        context=[missing.record.digest],
    )
    publish_batch(registry, "m@1", stored)
    told = [line for line in mledit("show", "m@2").out.splitlines() if "is contextual" in line]
    assert [line.partition(" is contextual")[0] for line in told] == [
        f"batch {stored.record.digest[:12]}"
    ]
