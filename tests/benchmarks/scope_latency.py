"""How long the encoder scope takes for a batch of prompts, against one prefill of the model.

python tests/benchmarks/scope_latency.py --data FOLDER --n-entries 10000
"""

import json
from pathlib import Path

import torch
from measuring import arguments, base_model, paired, report

from mlflow_edit.editors.encoder_entries import RADIUS
from mlflow_edit.evaluation.generation import padded
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.encoder import released_encoder
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.encoder_scope import EncoderScope

BATCH = "0" * 64


def book_of(base, subjects: dict[str, str]) -> EncoderCodebook:
    """Make an entry for each prompt, about its subject."""
    texts = list(subjects)
    site, encoder = locate(base.model, scope="encoder"), released_encoder()
    n = len(texts)
    return EncoderCodebook(
        stack=site.family.stack,
        encoder=encoder.digest,
        keys=encoder.embed(texts).half(),
        values=torch.zeros(n, 1, base.model.config.hidden_size, dtype=torch.float16),
        spans=torch.ones(n, dtype=torch.long),
        radii=torch.full((n,), RADIUS),
        thresholds=torch.full((n,), 0.6),
        layers=(site.layer,) * n,
        prompts=tuple(subjects),
        subjects=tuple(subjects.values()),
        labels=tuple(f"{i:064x}" for i in range(n)),
        edit_ids=tuple(f"e{i}" for i in range(n)),
    )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def main() -> None:
    args = arguments(__doc__, data=None, n_entries=10_000, batch=8, repeats=15)
    base = base_model(args.base)
    folder = Path(args.data)
    rows = lines(folder / "counterfact.jsonl")
    about = {text: row["subject"] for row in rows for text in (row["prompt"], *row["rephrases"])}
    about = dict(list(about.items())[: args.n_entries])
    questions = [row["prompt"] for row in lines(folder / "nq_open.jsonl")]
    unrelated = questions[: args.batch * (args.repeats + 1) * 2]
    near = [row["locality"][0]["prompt"] for row in rows if row["locality"]]
    book = book_of(base, about)
    figures = {}
    with EditedModel(base, compose([Part(BATCH, book)])) as edited:
        for name, prompts in (("unrelated", unrelated), ("near", near)):
            groups = [prompts[i : i + args.batch] for i in range(0, len(prompts), args.batch)]
            plain, decided, ratio = measured(edited, book, groups, args.repeats)
            figures |= {
                f"{name}_prefill_seconds": plain,
                f"{name}_scope_seconds": decided,
                f"{name}_share_of_prefill": ratio,
            }
    report(n_entries=len(about), batch=args.batch, **figures)


def measured(
    edited: EditedModel, book: EncoderCodebook, groups: list[list[str]], repeats: int
) -> tuple[float, float, float]:
    """Time prefills and decisions of the same prompts in turn, no prompt twice."""
    inputs = iter([padded(edited, [prompt_ids(edited.base, p) for p in g]) for g in groups])
    asked = iter([[edited.query_of(p) for p in group] for group in groups])
    scope = EncoderScope(book, released_encoder())

    def prefill() -> None:
        with torch.inference_mode(), edited.disabled():
            edited.model(**next(inputs), logits_to_keep=1)

    return paired(prefill, lambda: scope.decide(next(asked)), repeats=repeats)


if __name__ == "__main__":
    main()
