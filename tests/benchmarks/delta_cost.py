"""What weight deltas cost: bytes of a rank-one edit and of a fine-tuned layer; composing; loading.

python tests/benchmarks/delta_cost.py --rank 100 --repeats 5
"""

import shutil
import tempfile
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from measuring import arguments, base_folder, base_model, paired, report
from safetensors.torch import save_file
from torch import Tensor, nn

from mlflow_edit.models.base_model import BaseModel, load_base
from mlflow_edit.models.checkpoint import SINGLE, Checkpoint
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.changes import Dense, LowRank
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.format import write_patch
from mlflow_edit.patches.tensor_bytes import tensor_bytes

BATCH = "0" * 64
TEXTS = (
    "The harbour was quiet in the morning, and the boats lay still.",
    "A new bridge was opened over the river last week.",
    "She wrote that the museum had bought the painting for very little.",
    "Rain fell on the hills, and the road to the village was closed.",
)


def factors(rows: int, cols: int, rank: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator) / rank**0.5
    return left * 1e-3, torch.randn(rank, cols, generator=generator)


def down_projections(model: nn.Module) -> dict[str, Tensor]:
    return {n: p for n, p in model.named_parameters() if n.endswith("down_proj.weight")}


def write(tensors: Iterable[Tensor], to: Path) -> None:
    """Write tensors one after another, each made when the one before it is written."""
    with to.open("wb") as out:
        for tensor in tensors:
            out.write(tensor_bytes(tensor).data)


def fine_tuned(base: BaseModel, steps: int, rate: float) -> dict[str, float]:
    """Train one block of a bfloat16 model; tell the bytes of the lossless delta, and what moved."""
    model = base.model.to(torch.bfloat16)
    block = model.model.layers[10].requires_grad_(True)
    before = {name: p.detach().clone() for name, p in block.named_parameters()}
    optimiser = torch.optim.AdamW(block.parameters(), lr=rate)
    rows = base.tokenizer(list(TEXTS), return_tensors="pt", padding=True)
    for _ in range(steps):
        optimiser.zero_grad()
        model(**rows, labels=rows["input_ids"]).loss.backward()
        optimiser.step()
    changes = tuple(
        Dense.of(f"model.layers.10.{name}", before[name], p.detach())
        for name, p in block.named_parameters()
    )
    written = len(write_patch(Delta(changes, ("e",))))
    n_weights = sum(p.numel() for p in block.parameters())
    moved = sum(int((p != before[name]).sum()) for name, p in block.named_parameters())
    with torch.no_grad():
        for name, p in block.named_parameters():
            p.copy_(before[name])
    return {
        "learning_rate": rate,
        "moved": moved / n_weights,
        "bytes": written,
        "bytes_of_block": 2 * n_weights,
        "ratio": written / (2 * n_weights),
    }


def main() -> None:
    args = arguments(__doc__, rank=100, n_weights=30, repeats=5, steps=20)
    base = base_model(args.base)
    folder = base_folder(args.base)
    weights = dict(islice(down_projections(base.model).items(), args.n_weights))
    name, first = next(iter(weights.items()))
    one = Delta((LowRank(name, *factors(*first.shape, 1)),), ("e",))
    changes = [LowRank(n, *factors(*w.shape, args.rank)) for n, w in weights.items()]
    composition = compose([Part(BATCH, Delta(tuple(changes), ("e",)))])
    assert composition.weights is not None

    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "base", Path(scratch) / "out"
        shutil.copytree(folder, source, ignore=shutil.ignore_patterns("*.safetensors"))
        save_file({n: w.detach().contiguous() for n, w in weights.items()}, source / SINGLE)
        stored = Checkpoint(source)

        edited = {n: partial(composition.weights.materialise, n) for n in weights}

        def copied() -> None:
            write((stored.read(n) for n in weights), out)

        def composed() -> None:
            write((edit(stored.read(n)) for n, edit in edited.items()), out)

        plain, made, times = paired(copied, composed, repeats=args.repeats)

        whole, target = Checkpoint(folder), Path(scratch) / "whole"
        target.mkdir()
        whole_plain, whole_made, whole_times = paired(
            lambda: whole.copy(target, {}),
            lambda: whole.copy(target, edited),
            repeats=args.repeats,
        )

    def loaded() -> None:
        load_base(folder)

    def loaded_edited() -> None:
        with EditedModel(load_base(folder), composition) as edited:
            _ = edited.weights_digest

    base_seconds, edited_seconds, ratio = paired(loaded, loaded_edited, repeats=args.repeats)
    trained = [fine_tuned(base, args.steps, rate) for rate in (1e-5, 1e-4, 1e-3)]
    report(
        rank_one_bytes=len(write_patch(one)),
        n_weights=len(weights),
        rank=args.rank,
        copy_seconds=plain,
        compose_seconds=made,
        compose_times_copy=times,
        copy_model_seconds=whole_plain,
        export_seconds=whole_made,
        export_times_copy=whole_times,
        load_base_seconds=base_seconds,
        load_edited_seconds=edited_seconds,
        load_times_base=ratio,
        fine_tuned=trained,
    )


if __name__ == "__main__":
    main()
