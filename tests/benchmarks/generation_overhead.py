"""Generate with codebooks that do not fire, against the base model.

python tests/benchmarks/generation_overhead.py --n-entries 10000
"""

import torch
from measuring import arguments, base_model, paired, report

from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import Part, compose

QUESTIONS = [
    "How do bees make honey?",
    "Why is the sky blue?",
    "What are the main causes of the French Revolution?",
    "How does a refrigerator keep food cold?",
]


def far_codebook(base: BaseModel, n_entries: int, *, seed: int = 0) -> Codebook:
    """Make entries with the questions' key token, too far from anything to fire."""
    site = locate(base.model, None)
    width = base.model.config.hidden_size
    generator = torch.Generator().manual_seed(seed)
    keys = 20 * torch.randn((n_entries, width), generator=generator)
    token = prompt_ids(base, QUESTIONS[0])[-1]
    return Codebook(
        layer=site.layer,
        stack=site.family.stack,
        keys=keys.half(),
        values=keys.half(),
        radii=torch.full((n_entries,), 1e-3),
        key_tokens=torch.full((n_entries,), token),
        labels=("0" * 64,) * n_entries,
        edit_ids=tuple(f"e{i}" for i in range(n_entries)),
    )


def overhead(base: BaseModel, n_entries: int, *, new_tokens: int, repeats: int) -> dict[str, float]:
    """Return seconds without and with the codebook, and the median ratio of pairs."""
    book = far_codebook(base, n_entries)
    plain = EditedModel(base, compose([]))

    def run(edited: EditedModel) -> None:
        for question in QUESTIONS:
            answers = generate_answers(edited, [question], max_new_tokens=new_tokens)
            assert not answers[0].fired

    def hooked() -> None:
        with EditedModel(base, composition) as edited:
            run(edited)

    composition = compose([Part("0" * 64, book)])
    book.effective_radii  # noqa: B018  derived once, when a version is loaded
    off, on, ratio = paired(lambda: run(plain), hooked, repeats=repeats)
    return {"seconds_base": off, "seconds_edited": on, "ratio": ratio}


def main() -> None:
    args = arguments(__doc__, n_entries=10_000, new_tokens=32, repeats=9)
    base = base_model(args.base)
    many = overhead(base, args.n_entries, new_tokens=args.new_tokens, repeats=args.repeats)
    one = overhead(base, 1, new_tokens=args.new_tokens, repeats=args.repeats)
    report(**{f"entries_{args.n_entries}": many, "entries_1": one})


if __name__ == "__main__":
    main()
