"""Train the scope head: a low-rank delta that makes a sentence encoder read two texts together.

    python examples/scope_head/train.py --data FOLDER --out scope_head.safetensors

FOLDER holds `zsre.jsonl` and `counterfact.jsonl` (`subject, prompt, rephrases, locality, old`) and
`qa_to_statement.tsv` (QA2D); see README.md beside this file for their sources. About 25 minutes on
two cores. Equal data, options and machine give the same pairs in the same order.
"""

import argparse
import random
import time
from pathlib import Path

import torch
from facts import Fact, Relations, facts_of, scored, statements
from pairs import Alike, Pair, mix_of
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from wording import RANDOM

from mlflow_edit.core.subjects import N_FEATURES
from mlflow_edit.models.base_digest import base_digest
from mlflow_edit.models.cache import cache_folder
from mlflow_edit.models.encoder import CrossReader, Embedder
from mlflow_edit.models.minilm import minilm_folder
from mlflow_edit.models.scope_head import ScopeHead, read_scope_head
from mlflow_edit.patches.scope import Query, Question

HERE = Path(__file__).parent
FREEFORM = HERE.parents[1] / "tests" / "benchmarks" / "freeform.jsonl"
MINED = 6  # nearest other prompts
ALIKE = 8  # nearest other relations
DROPOUT, WARM_UP, POOL = 0.05, 0.03, 2048


class LowRank(nn.Module):
    """A linear module and the low-rank delta that is learned for it."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.a = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + (x @ self.a.T) @ self.b.T


class Head(nn.Module):
    """The encoder's blocks with deltas, and the read-out."""

    def __init__(self, folder: Path, rank: int) -> None:
        super().__init__()
        self.reader = CrossReader(folder)
        self.reader.model.requires_grad_(False)
        self.deltas: dict[str, LowRank] = {}
        blocks = self.reader.model.encoder
        for name, module in list(blocks.named_modules()):
            if isinstance(module, nn.Linear):
                parent, _, last = name.rpartition(".")
                self.deltas[name] = LowRank(module, rank)
                setattr(blocks.get_submodule(parent), last, self.deltas[name])
            elif isinstance(module, nn.Dropout):
                module.p = DROPOUT
        width = 2 * self.reader.model.config.hidden_size + N_FEATURES
        self.read_out = nn.Linear(width, 1)

    def forward(self, pairs: list[Pair]) -> Tensor:
        questions = [Question(pair.prompt, pair.subject) for pair in pairs]
        queries = [Query(pair.text, pair.earlier) for pair in pairs]
        return self.read_out(self.reader.read(questions, queries).float())[:, 0]

    def trained(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    def start_from(self, head: ScopeHead) -> None:
        """Take over what another head has learned."""
        with torch.no_grad():
            for name, delta in self.deltas.items():
                for mine, theirs in zip((delta.a, delta.b), head.factors[name], strict=True):
                    mine.copy_(theirs)
            self.read_out.weight.copy_(head.weight[None])
            self.read_out.bias.copy_(head.bias[None])

    def result(self, encoder: str) -> ScopeHead:
        factors = {n: (d.a.detach().half(), d.b.detach().half()) for n, d in self.deltas.items()}
        weight, bias = self.read_out.weight.detach()[0].half(), self.read_out.bias.detach()[0]
        return ScopeHead(encoder, factors, weight, bias.half())


def mine(embedder: Embedder, groups: list[list[Fact]]) -> dict[int, list[Fact]]:
    """Find for each fact those that lie nearest to it and are about something else."""
    found: dict[int, list[Fact]] = {}
    for facts in groups:
        keys = embedder.embed([fact.wordings[0] for fact in facts])
        near = (keys @ keys.T).fill_diagonal_(-1).topk(MINED, dim=1).indices.tolist()
        for fact, places in zip(facts, near, strict=True):
            others = [facts[j] for j in places]
            strange = [o for o in others if o.subject.casefold() != fact.subject.casefold()]
            found[id(fact)] = strange or others[-1:]
    return found


def most_alike(embedder: Embedder, relations: Relations) -> Alike:
    """Find for each relation those whose wordings, without a subject, mean most nearly the same."""
    found = {}
    for kind in relations.kinds:
        names = relations.names(kind)
        means = [embedder.embed(relations.wordings(kind, name, "it")).mean(0) for name in names]
        similar = torch.stack(means) @ torch.stack(means).T
        near = similar.fill_diagonal_(-1).topk(min(ALIKE, len(names) - 1), dim=1).indices.tolist()
        found |= {(kind, names[i]): [names[j] for j in row] for i, row in enumerate(near)}
    return found


def batches(pairs: list[Pair], size: int) -> list[list[Pair]]:
    """Group pairs of like length, in random order."""
    found = []
    for start in range(0, len(pairs), POOL):
        pool = sorted(pairs[start : start + POOL], key=lambda p: sum(map(len, p[:3])))
        some = [pool[i : i + size] for i in range(0, len(pool), size)]
        random.shuffle(some)
        found += some
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="a head to go on from")
    parser.add_argument("--pairs", type=int, default=130_000, help="how many pairs to train on")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    RANDOM.seed(args.seed)
    folder = minilm_folder(cache_folder(), print)
    relations = Relations(sorted(HERE.glob("*.yaml")), scored(args.data, FREEFORM))
    facts = facts_of(args.data, relations, "train")
    questions = statements(args.data / "qa_to_statement.tsv")
    embedder = Embedder(folder)
    alike = most_alike(embedder, relations)
    mined = mine(embedder, [[f for f in facts if not f.relation], questions])
    head = Head(folder, args.rank).train()
    if args.start:
        head.start_from(read_scope_head(args.start.read_bytes()))
    read_out = list(head.read_out.parameters())
    deltas = [p for delta in head.deltas.values() for p in (delta.a, delta.b)]
    groups = [{"params": deltas, "rate": args.rate}, {"params": read_out, "rate": 4 * args.rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    print(f"{len(facts)} facts, {len(questions)} questions", flush=True)
    n_seen, mean_loss, start = 0, 0.7, time.perf_counter()
    while n_seen < args.pairs:
        for some in batches(mix_of(facts, questions, mined, relations, alike), args.batch):
            done = n_seen / args.pairs
            if done >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = group["rate"] * min(1, done / WARM_UP + 0.01) * (1 - done)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = head(some)
            wanted = torch.tensor([float(pair.label) for pair in some])
            loss = binary_cross_entropy_with_logits(logits.float(), wanted)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.trained(), 1.0)
            optimiser.step()
            n_seen += len(some)
            mean_loss += 0.02 * (loss.item() - mean_loss)
            if n_seen // 5000 > (n_seen - len(some)) // 5000:
                seconds = time.perf_counter() - start
                print(f"{n_seen} pairs, loss {mean_loss:.4f}, {seconds:.0f} s", flush=True)
    made = head.result(base_digest(folder, folder))
    args.out.write_bytes(made.to_bytes())
    print(f"{args.out}: {args.out.stat().st_size} bytes, digest {made.packed().digest}")


if __name__ == "__main__":
    main()
