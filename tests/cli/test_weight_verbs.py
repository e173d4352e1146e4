"""Exporting, merging and rebasing weight deltas from the command line."""

from pathlib import Path
from typing import Any

import pytest
from deltas import delta_batch, low_rank, publish_batch
from registry_fixtures import BOOK
from tiny_models import save_tiny, tiny_base

from cli.conftest import Mledit
from mlflow_edit.cli.blame import _decided
from mlflow_edit.operations.blame import Blamed, InForce, Origin
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
    assert (
        "merged   dare (density 0.5, weight 1, seed 3): one batch of 2" in mledit("show", "m@4").out
    )
    assert mledit("show", "m@4", "--json").json["merging"] == made.json["merging"]
    assert mledit("show", "m@3", "--json").json["merging"] is None
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


def test_inspect_and_blame_speak_of_deltas(mledit: Mledit, model: str) -> None:
    registry = MlflowRegistry()
    base = registry.manifest(registry.versions(model)[0]).base
    network: Any = load_pinned(registry, base).model
    stored = delta_batch(base.digest, [low_rank(network, DOWN, seed=1)], [("Q?", "x")])
    publish_batch(registry, "m@1", stored)
    assert "m@2: 0 entries and 1 delta of weights" in mledit("inspect", "m@2").out
    (edit,) = stored.edits
    one = mledit("inspect", "m@2", edit.id).out
    assert "asked   Q?" in one
    assert "after   -" in one, "it was not measured"
    assert "failed" not in mledit("show", "m@2").out, "what was not measured has not failed"
    told = mledit("blame", "m@2", BOOK, Q).out
    assert "The weights answer, with 1 delta in force: they say what the base model says." in told


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (("Yangon", "Naypyidaw"), "it would be another without 000000000000"),
        (("Yangon", "Lima"), "it would be another without 000000000000 or 111111111111"),
        (("Naypyidaw", "Naypyidaw"), "it is the same without any one of them"),
        (("Naypyidaw", None), "it is the same without any one of them"),
        (("Naypyidaw",) * 8 + (None,), "it is the same without any one of the 8 nearest in words"),
    ],
)
def test_blame_says_which_delta_an_answer_hangs_on(
    without: tuple[str | None, ...], said: str
) -> None:
    origin = Origin(version=2, digest="d", run_id="r", author="Ada", created_at="", message="",
                    edits_from=None)  # fmt: skip
    deltas = tuple(
        InForce(batch=str(i) * 64, editor="rome", n_edits=1, origin=origin, without=answer)
        for i, answer in enumerate(without)
    )
    found = Blamed(name="m", version=2, prompt="?", answer="Naypyidaw", base_answer="Yangon",
                   fired=None, edit=None, origin=None, nearest=(), deltas=deltas)  # fmt: skip
    assert _decided(found) == said
