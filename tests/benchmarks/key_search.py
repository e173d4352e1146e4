"""How fast the nearest of many keys are found, and how many of them: all keys against codes.

python tests/benchmarks/key_search.py --data FOLDER --n-entries 1000000

Keys are prompts and rephrases of the data files, and mixes of two of them with some noise;
queries are rephrases that were held out.
"""

import json
from pathlib import Path

import torch
from measuring import arguments, paired, report, timed
from torch import Tensor
from torch.nn.functional import normalize

from mlflow_edit.models.encoder import released_encoder
from mlflow_edit.patches import key_index
from mlflow_edit.patches.encoder_scope import CANDIDATES
from mlflow_edit.patches.key_index import KeyIndex

NOISE = 0.01  # of each number in a key that is a mix
HELD_OUT = 4  # one row in so many keeps its rephrases for queries


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line.strip()]


def texts(folder: Path) -> tuple[list[str], list[str]]:
    """Return what becomes keys, and the rephrases that are held out."""
    asked, held = [row["prompt"] for row in lines(folder / "nq_open.jsonl")], []
    for name in ("counterfact.jsonl", "zsre.jsonl"):
        for i, row in enumerate(lines(folder / name)):
            asked += [row["prompt"], *(probe["prompt"] for probe in row["locality"])]
            (asked if i % HELD_OUT else held).extend(row["rephrases"])
    known = dict.fromkeys(asked)
    return list(known), [text for text in dict.fromkeys(held) if text not in known]


def many(real: Tensor, n: int) -> Tensor:
    """Return real keys, as many as there are, then mixes of two of them."""
    random = torch.Generator().manual_seed(0)
    keys = real.new_empty(n, real.shape[1])
    for i, part in enumerate(keys.split(len(real))):
        if i == 0:
            part.copy_(real[torch.randperm(len(real), generator=random)[: len(part)]])
            continue
        a, b = (real[torch.randint(len(real), (len(part),), generator=random)] for _ in "ab")
        share = torch.rand(len(part), 1, generator=random)
        noise = NOISE * torch.randn(part.shape, generator=random)
        part.copy_(normalize(share * a + (1 - share) * b + noise, dim=1))
    return keys


def recall(found: Tensor, expected: Tensor) -> float:
    hits = [len({*a} & {*b}) for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
    return sum(hits) / expected.numel()


def main() -> None:
    args = arguments(__doc__, data=None, n_entries=1_000_000, batch=8, repeats=25)
    asked, held = texts(Path(args.data))
    encoder = released_encoder()
    keys, queries = many(encoder.embed(asked), args.n_entries), encoder.embed(held)
    exact, indexed = KeyIndex(keys), KeyIndex(keys)
    key_index.EXACT_UP_TO = len(keys)
    exact.search(queries[:1], CANDIDATES)
    key_index.EXACT_UP_TO = 0
    build = timed(lambda: indexed.search(queries[:1], CANDIDATES))
    groups = queries.split(args.batch)
    one, other = iter(groups * 2), iter(groups * 2)
    exact_seconds, indexed_seconds, ratio = paired(
        lambda: exact.search(next(one), CANDIDATES),
        lambda: indexed.search(next(other), CANDIDATES),
        repeats=args.repeats,
    )
    expected, found = (index.search(queries, CANDIDATES)[1] for index in (exact, indexed))
    report(
        n_entries=len(keys),
        n_queries=len(queries),
        batch=args.batch,
        build_seconds=build,
        exact_ms=1000 * exact_seconds,
        indexed_ms=1000 * indexed_seconds,
        share_of_exact=ratio,
        **{f"recall_at_{CANDIDATES}": recall(found, expected)},
        recall_at_1=recall(found[:, :1], expected[:, :1]),
    )


if __name__ == "__main__":
    main()
