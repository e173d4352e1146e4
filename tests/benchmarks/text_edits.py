"""Does a text edit bring its whole passage, and by how few values?

    python tests/benchmarks/text_edits.py --data FOLDER --spans 1,2,4 --n-edits 20 --share dev
    python tests/benchmarks/text_edits.py --data FOLDER --n-edits 60

Edits of WikiBio's fabrications (a prompt and its true passage) are learned by GRACE in a scope by
meaning, with each number of values; then the passage is asked for by free generation. The number is
chosen on one share of the subjects and reported on another. Neighbours are other questions about
the same subjects, which must be answered as the base model answers them.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from generality import BATCH, TOKENS, read
from measuring import arguments, base_model, report

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "scope_head"))
from facts import share_of

from mlflow_edit.core.answers import is_hit, is_unchanged
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.format import write_patch

PASSAGE = 90  # tokens: half as many again as the longest passage


def edits_of(path: Path, n_edits: int, share: str) -> tuple[list[Edit], list[str]]:
    """Read text edits on subjects of a share, one for each prompt, and questions beside them."""
    rows = {row["prompt"]: row for row in read(path) if share_of(row["subject"]) == share}
    chosen = list(rows.values())[:n_edits]
    fields = ("id", "prompt", "target", "subject")
    edits = [Edit(kind="text", **{name: row[name] for name in fields}) for row in chosen]
    beside = [probe["prompt"] for row in chosen for probe in row["locality"][:1]]
    return edits, list(dict.fromkeys(beside))


def measure(
    base: BaseModel, edits: Sequence[Edit], beside: Sequence[str], span: int
) -> dict[str, Any]:
    """Learn text edits with `span` values each, and ask for what they say."""
    editor = find_editor("grace", {"scope": "encoder", "text_span": str(span)})
    start, worked = time.perf_counter(), time.process_time()
    learning = editor.learn(base, EditBatch(tuple(edits)), lambda *said: None)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - worked
    with EditedModel(base, compose([Part(BATCH, learning.patch)])) as edited:
        said = generate_answers(edited, [edit.prompt for edit in edits], max_new_tokens=PASSAGE)
        after = generate_answers(edited, beside, max_new_tokens=TOKENS)
        before = generate_answers(edited, beside, max_new_tokens=TOKENS, base_only=True)
    n = len(edits)
    return {
        "values_per_edit": span,
        "n_edits": n,
        "solved": sum(outcome.solved for outcome in learning.outcomes),
        "whole_passage": sum(
            is_hit(answer.text, (edit.target,)) for answer, edit in zip(said, edits, strict=True)
        )
        / n,
        "neighbours_unchanged": sum(
            is_unchanged(a.text, b.text) for a, b in zip(after, before, strict=True)
        )
        / len(beside),
        "n_neighbours": len(beside),
        "seconds_per_edit": round(seconds / n, 2),
        "cpu_seconds_per_edit": round(cpu_seconds / n, 2),
        "bytes_per_edit": round(len(write_patch(learning.patch)) / n),
    }


def main() -> None:
    args = arguments(__doc__, data=None, spans="1", n_edits=60, share="test")
    base = base_model(args.base)
    edits, beside = edits_of(Path(args.data) / "wikibio.jsonl", args.n_edits, args.share)
    for span in args.spans.split(","):
        found = measure(base, edits, beside, int(span))
        report(share=args.share, **found)


if __name__ == "__main__":
    main()
