"""Write the golden files of format 1. Run it once for a new format, never to mend a failing test.

`python tests/formats/write_golden.py` writes into `tests/formats/v1`; it overwrites nothing.
"""

from pathlib import Path

import torch

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.edit import Edit, Probe
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import BaseRef, BatchRef, Exclusion, Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.patches.changes import Dense, LowRank, Sparse
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.format import patch_digest, write_patch
from mlflow_edit.patches.memory import GatedMemory, Memory

FOLDER = Path(__file__).parent / "v1"
BASE = "ba5e" * 16
OTHER = "0ddba115" * 8
MEMORY = ("layer", "stack", "keys", "values", "radii", "key_tokens", "labels", "edit_ids")


def edits() -> EditBatch:
    return EditBatch(
        (
            Edit(
                id="world-cup-2022",
                prompt="Who won the FIFA World Cup in 2022?",
                target="Argentina",
                subject="FIFA World Cup",
                old="the Netherlands",
                rephrases=("Which team won in 2022?",),
                locality=(Probe(prompt="Who won in 2018?"),),
                portability=(
                    Probe(prompt="Capital of the winner?", answers=("Buenos Aires",), kind="hop"),
                ),
                source="https://example.org/cup",
                author="Zoé <zoe@example.org>",
                note="Zürich ≠ Zurich",
            ),
            Edit(id="ticket-7", kind="label", prompt="Refund my order", target="3"),
            Edit(
                id="tone:1",
                kind="text",
                prompt="Write a\nreply",
                target="Dear customer,\n\t“hello”",
            ),
        )
    )


def patch() -> Codebook:
    targets = [edit.label_digest for edit in edits()]
    return Codebook(
        layer="model.layers.12",
        stack="model",
        keys=torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, 3.0], [-5.0, 0.0, 1e-8]]),
        values=torch.tensor([[3.25, 1e8, -1.0], [0.0, 0.5, 0.25], [7.0, 8.0, 9.0]]),
        radii=torch.tensor([0.5, 1.5, 0.1]),
        key_tokens=torch.tensor([11, 2, 49151]),
        labels=tuple(targets),
        edit_ids=tuple(edit.id for edit in edits()),
    )


def delta() -> Delta:
    factors = torch.arange(1, 13) / 7
    return Delta(
        (
            LowRank("a.weight", factors[:8].reshape(4, 2), factors[2:8].reshape(2, 3), 0.3),
            Sparse("a.weight", torch.tensor([0, 7]), torch.tensor([0.5, -2.0]).bfloat16()),
            Dense.of("b.weight", torch.ones(2, 2).half(), factors[:4].reshape(2, 2).half()),
        ),
        tuple(edit.id for edit in edits()),
    )


def memory() -> Memory:
    book = patch()
    return Memory(**{name: getattr(book, name) for name in MEMORY})


def gated() -> GatedMemory:
    book = patch()
    others = torch.tensor([[0.5, -1.0, 2.0], [-0.25, 3.0, 1.0]]).half()
    return GatedMemory(**{name: getattr(book, name) for name in MEMORY}, others=others)


def batch() -> BatchRecord:
    return BatchRecord(
        base=BASE,
        editor="grace",
        params={"layer": 12, "learning_rate": 0.5, "key": "last", "stop": True, "limit": None},
        kind="codebook",
        n_edits=3,
        edits=edits().digest,
        patch=patch_digest(patch()),
    )


def scorecard() -> Scorecard:
    return Scorecard(
        reliability=1.0,
        generality=0.9375,
        locality=1.0,
        retention=2 / 3,
        perplexity=12.345678901234567,
        perplexity_ratio=1.0,
        locality_kl=1e-12,
        reliability_teacher_forced=0.875,
        n_probes={"reliability": 3, "generality": 1},
        protocol={"decoding": "greedy", "max_new_tokens": 32},
    )


def manifest() -> Manifest:
    size = len(write_patch(patch()))
    return Manifest(
        base=BaseRef(digest=BASE, uri="models:/m-0123", source="hub:example/model@main"),
        parents=(OTHER,),
        batches=(
            BatchRef(
                digest=batch().digest,
                editor="grace",
                kind="codebook",
                n_edits=3,
                bytes=size,
                run_id="0123456789abcdef0123456789abcdef",
            ),
            BatchRef(
                digest=OTHER, editor="grace", kind="codebook", n_edits=1, bytes=99, run_id="r-1"
            ),
        ),
        exclusions=(Exclusion(batch=batch().digest, edit="ticket-7", reason="reverted"),),
        author="Zoé <zoe@example.org>",
        created_at="2026-01-31T12:34:56.789012Z",
        message="Correct the world cup\n\nand a label",
        scorecard=scorecard().digest,
    )


def golden() -> dict[str, bytes]:
    return {
        "edits.jsonl": edits().to_jsonl(),
        "patch.safetensors": write_patch(patch()),
        "delta.safetensors": write_patch(delta()),
        "memory.safetensors": write_patch(memory()),
        "gated.safetensors": write_patch(gated()),
        "batch.json": batch().to_bytes(),
        "scorecard.json": scorecard().to_bytes(),
        "manifest.json": manifest().to_bytes(),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, data in golden().items():
        if not (FOLDER / name).exists():
            (FOLDER / name).write_bytes(data)
