"""Time the verbs of history on a model of many batches, in memory, and the check of overlaps.

python tests/benchmarks/history_speed.py --n-batches 1000
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import arguments, report

sys.path.insert(0, str(Path(__file__).parents[1]))

from registry_fixtures import draft_of, hand_made_batch

from mlflow_edit import MemoryRegistry, diff, log, merge, revert
from mlflow_edit.core.manifest import BaseRef, Manifest
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.overlap import overlaps
from mlflow_edit.registry.registry import VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch

WIDTH, REPEATS = 576, 5


def batches(n: int, base: str, *, first: int = 0) -> list[StoredBatch]:
    """Make batches of ten entries as wide as SmolLM2's hidden state."""
    return [
        hand_made_batch(base, [(f"Question {b} {i}?", "x") for i in range(10)], seed=b, width=WIDTH)
        for b in range(first, first + n)
    ]


def publish(
    registry: MemoryRegistry,
    base: BaseRef,
    parents: list[tuple[VersionInfo, Manifest]],
    stored: list[StoredBatch],
) -> tuple[VersionInfo, Manifest]:
    """Publish a version of many batches at once: how it came to be does not matter here."""
    for batch in stored:
        registry.files.setdefault(batch.record.digest, batch.files())
    draft = draft_of("m", base, parents=parents)
    known = [ref for _, manifest in parents for ref in manifest.batches]
    refs = {ref.digest: ref for ref in [*known, *(batch.reference("run") for batch in stored)]}
    plain = draft.manifest("run")
    whole = Manifest.model_validate(
        {**plain.model_dump(), "batches": [r.model_dump() for r in refs.values()]}
    )
    from dataclasses import replace

    info = registry.publish(replace(draft, manifest=lambda run_id: whole))
    return info, whole


def median(work: Callable[[], object]) -> float:
    """Return the median seconds of a few runs."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def overlap_seconds(n_new: int, n_old: int) -> float:
    """Time the check of some entries against many, all with one key token."""
    draw = torch.Generator().manual_seed(0)

    def book(n: int, label: str) -> Codebook:
        return Codebook(
            layer="l", stack="s", keys=torch.randn(n, 768, generator=draw),
            values=torch.zeros(n, 1), radii=torch.full((n,), 0.5),
            key_tokens=torch.zeros(n, dtype=torch.long), labels=(label * 64,) * n,
            edit_ids=tuple(f"e{i}" for i in range(n)),
        )  # fmt: skip

    few, many = book(n_new, "a"), book(n_old, "b")
    return median(lambda: list(overlaps(few, many)))


def main() -> None:
    args = arguments(__doc__, n_batches=1000)
    base = BaseRef(digest="0" * 64, uri="memory:/base")
    registry = MemoryRegistry()
    registry.create_model("m")
    stored = batches(args.n_batches, base.digest)
    root = publish(registry, base, [], stored)
    for side in range(2):
        publish(registry, base, [root], batches(1, base.digest, first=args.n_batches + side))
    middle = stored[args.n_batches // 2].record.digest
    quick = {"registry": registry, "measured": False, "author": "Ada"}
    reads: list[str] = []
    read_patch = registry.patch

    def counted(ref: object) -> object:
        reads.append(str(ref))
        return read_patch(ref)  # type: ignore[arg-type]

    registry.patch = counted  # type: ignore[method-assign,assignment]
    found = {"n_batches": args.n_batches, "bytes_of_manifest": len(root[1].to_bytes())}
    verbs: dict[str, Callable[[], object]] = {
        "log": lambda: log("m", registry=registry),
        "diff": lambda: diff("m@1", "m@2", registry=registry),
        "revert": lambda: revert("m@1", [middle], **quick),  # type: ignore[arg-type]
        "merge": lambda: merge("m@2", "m@3", **quick),  # type: ignore[arg-type]
    }
    for verb, work in verbs.items():
        reads.clear()
        found[f"seconds_{verb}"] = median(work)
        found[f"patches_read_{verb}"] = len(reads) // REPEATS
    found["seconds_overlap_16_by_10000"] = overlap_seconds(16, 10_000)
    found |= cold_load(registry, root[1])
    report(**found)


def cold_load(registry: MemoryRegistry, manifest: Manifest) -> dict[str, float]:
    """Read and verify all batches, against one batch that holds as many entries."""
    n_entries = sum(ref.n_edits for ref in manifest.batches)
    questions = [(f"Question {i}?", "x") for i in range(n_entries)]
    one = hand_made_batch(manifest.base.digest, questions, width=WIDTH)
    files = one.files()
    return {
        "seconds_load_batches": median(lambda: registry.batches(manifest)),
        "seconds_load_one_batch_of_as_many": median(
            lambda: StoredBatch.from_files(files, digest=one.record.digest)
        ),
    }


if __name__ == "__main__":
    main()
