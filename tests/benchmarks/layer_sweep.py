"""Which layers, and which settings, do editors of weights hold best at?

    python tests/benchmarks/layer_sweep.py --data FOLDER --editor memit --layers "3-5;6-8" \\
        --params "contexts=2;contexts=2,max_norm=2"

Every choice of layers with every choice of settings learns one batch of zsRE and CounterFact edits
(half of each) on subjects of the development share, none of which is used for reported figures;
one JSON line for each. Choices are parted by semicolons.
"""

import json
import time
from itertools import product
from pathlib import Path
from typing import Any

from measuring import arguments, base_model
from scoring import Exam, half_of_each, settings

from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.composition import Part, compose


def main() -> None:
    args = arguments(
        __doc__,
        data=None,
        editor="memit",
        layers="",
        params="",
        n_edits=8,
        n_unrelated=10,
        n_texts=8,
    )
    base = base_model(args.base)
    folder = Path(args.data)
    batch = EditBatch(tuple(half_of_each(folder, args.n_edits, "dev")))
    exam = Exam(folder, n_unrelated=args.n_unrelated, n_texts=args.n_texts, most=args.n_edits)
    for layers, params in product(args.layers.split(";"), args.params.split(";")):
        given = {**({"layers": layers} if layers else {}), **settings(params)}
        print(json.dumps(tried(base, args.editor, given, batch, exam)), flush=True)


def tried(
    base: BaseModel, name: str, params: dict[str, str], batch: EditBatch, exam: Exam
) -> dict[str, Any]:
    """Learn a batch with some settings and look at what came of it."""
    start = time.perf_counter()
    learning = find_editor(name, params).learn(base, batch, lambda *said: None)
    seconds = (time.perf_counter() - start) / len(batch)
    outcomes = learning.outcomes
    with EditedModel(base, compose([Part("0" * 64, learning.patch)])) as edited:
        scores = exam.score(edited, batch.edits)
    return {
        "editor": name,
        **params,
        "n_edits": len(batch),
        "solved": sum(outcome.solved for outcome in outcomes),
        "loss": round(sum(outcome.loss for outcome in outcomes) / len(outcomes), 3),
        "steps": round(sum(outcome.steps for outcome in outcomes) / len(outcomes), 1),
        "seconds_per_edit": round(seconds, 2),
        **scores,
    }


if __name__ == "__main__":
    main()
