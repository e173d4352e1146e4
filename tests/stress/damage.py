"""Flip single bits of stored files, and feed loaders what is malformed.

python tests/stress/damage.py --n-flips 20000 --n-inputs 100000

Every flip must be refused with IntegrityError; every malformed input must be read, or refused with
an error of ours, within a second.
"""

import argparse
import json
import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from registry_fixtures import hand_made_batch

from mlflow_edit.core.edit_file import parse_edits
from mlflow_edit.core.gate import parse_gate
from mlflow_edit.core.ledger import read_entry
from mlflow_edit.core.manifest import Exclusion, Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError, MlflowEditError
from mlflow_edit.evaluation.suite import parse_suite
from mlflow_edit.patches.format import read_patch, write_patch

BATCH = hand_made_batch("0" * 64, [(f"Question {i}?", f"Answer {i}") for i in range(16)])
MANIFEST = Manifest.model_validate(
    {
        "base": {"digest": "0" * 64, "uri": "models:/m-1"},
        "batches": [BATCH.reference("run")],
        "exclusions": [Exclusion(batch=BATCH.record.digest, edit="e1", reason="reverted")],
        "created_at": "2026-01-02T03:04:05Z",
        "message": "über",
    }
)
CARD = Scorecard(reliability=0.5, locality=1.0, n_probes={"locality": 3}, protocol={"dtype": "x"})

FILES: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "patch": (write_patch(BATCH.patch), lambda data: read_patch(data)),
    "manifest": (MANIFEST.to_bytes(), lambda data: Manifest.from_bytes(data)),
    "scorecard": (CARD.to_bytes(), lambda data: Scorecard.from_bytes(data)),
}
EDITS = BATCH.edits.to_jsonl()
ENTRY = json.dumps(
    {"kind": "promotion", "alias": "p", "to": "0" * 64, "previous": None, "who": "Ada",
     "at": "2026-01-02T03:04:05Z", "nonce": "01234567"}
).encode()  # fmt: skip
SEEDS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    **FILES,
    "jsonl": (EDITS, lambda d: parse_edits(d.decode("utf-8", "replace"), format="jsonl")),
    "json": (
        b"[" + b",".join(EDITS.splitlines()) + b"]",
        lambda d: parse_edits(d.decode("utf-8", "replace"), format="json"),
    ),
    "csv": (
        b'prompt,target,rephrases\nWho?,Ada,Who is it?|Who was it?\n"a, b",c,\n',
        lambda d: parse_edits(d.decode("utf-8", "replace"), format="csv"),
    ),
    "yaml": (
        b"- prompt: Who?\n  target: Ada\n  rephrases: [a, b]\n",
        lambda d: parse_edits(d.decode("utf-8", "replace"), format="yaml"),
    ),
    "gate": (
        b"min: {reliability: 0.9}\nnot_worse: {locality: 0.01}\napproved: true\n",
        lambda d: parse_gate(d.decode("utf-8", "replace")),
    ),
    "suite": (
        b'{"prompt": "Who?", "answers": ["Ada"]}\n{"text": "Once upon a time."}\n',
        lambda d: parse_suite(d.decode("utf-8", "replace"), name="s"),
    ),
    "ledger": (ENTRY, lambda d: read_entry(d.decode("utf-8", "replace"), number=1)),
}
PIECES = [b"\x00", b"\xff\xfe", b"{", b"}", b"[" * 50, b'"', b":", b",", b"null", b"NaN", b"1e999",
          b"-1", b"9" * 400, "\u202e".encode(), b"\\ud800", b"\n", b"&a *a", b"!!python/x", b"{}"]  # fmt: skip


def flips(n: int, draw: random.Random) -> Counter[str]:
    """Flip `n` bits, one at a time, and count what became of it."""
    found: Counter[str] = Counter()
    names = sorted(FILES)
    for i in range(n):
        data, read = FILES[names[i % len(names)]]
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            read(bytes(damaged))
            found["accepted"] += 1
        except IntegrityError:
            found["refused"] += 1
    return found


def malformed(data: bytes, draw: random.Random) -> bytes:
    """Cut, repeat, replace and insert, a few times."""
    damaged = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(damaged) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            del damaged[place : place + draw.randint(1, 40)]
        elif kind == 1:
            damaged[place:place] = draw.choice(PIECES)
        elif kind == 2:
            damaged[place : place + 1] = bytes([draw.randrange(256)])
        else:
            damaged[place:place] = damaged[: draw.randint(0, 60)]
    return bytes(damaged)


def fuzz(n: int, draw: random.Random) -> dict[str, float]:
    """Feed `n` malformed inputs to the loaders."""
    found: Counter[str] = Counter()
    slowest = 0.0
    names = sorted(SEEDS)
    for i in range(n):
        data, read = SEEDS[names[i % len(names)]]
        damaged = malformed(data, draw)
        start = time.perf_counter()
        try:
            read(damaged)
            found["read"] += 1
        except MlflowEditError:
            found["refused"] += 1
        slowest = max(slowest, time.perf_counter() - start)
    return {**found, "slowest_seconds": slowest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-flips", type=int, default=20_000)
    parser.add_argument("--n-inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    flipped = flips(args.n_flips, draw)
    tracemalloc.start()
    fuzzed = fuzz(args.n_inputs, draw)
    peak = tracemalloc.get_traced_memory()[1]
    print(json.dumps({"flips": flipped, "inputs": fuzzed, "peak_bytes": peak}, indent=2))


if __name__ == "__main__":
    main()
