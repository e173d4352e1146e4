"""What benchmarks of editors ask an edited model, by free generation."""

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from generality import TOKENS, edits_of, probes, read

from mlflow_edit.core.answers import is_hit, is_unchanged
from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import Edit
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.evaluation.teacher_forcing import perplexities
from mlflow_edit.models.edited_model import EditedModel

METRICS = ("reliability", "generality", "locality", "unrelated")


def half_of_each(folder: Path, n_edits: int, share: str) -> list[Edit]:
    """Read zsRE and CounterFact edits in turn; where one has no more, the other goes on."""
    both = [edits_of(folder, [name], n_edits, share) for name in ("zsre", "counterfact")]
    return [edit for pair in zip_longest(*both) for edit in pair if edit][:n_edits]


class Exam:
    """Questions to an edited model; what the base says to them is asked once only.

    Args:
        folder: of the data.
        n_unrelated: questions that no edit is about.
        n_texts: plain texts for perplexity.
        most: probes of one metric, drawn from those of all edits.
        kept: a file for the base's answers, so that they are asked for once only.
    """

    def __init__(
        self, folder: Path, *, n_unrelated: int, n_texts: int, most: int, kept: Path | None = None
    ) -> None:
        self._unrelated = [row["prompt"] for row in read(folder / "nq_open.jsonl")[:n_unrelated]]
        self._texts = [row["text"] for row in read(folder / "text.jsonl")[:n_texts]]
        self._most = most
        self._kept = kept
        self._base: dict[str, str] = {}
        if kept and kept.exists():
            self._base = json.loads(kept.read_text("utf-8"))

    def score(self, edited: EditedModel, edits: Sequence[Edit]) -> dict[str, Any]:
        """Return the share of probes of each metric that are as they should be, and their number.

        Reliability is over all edits: after several batches it is their retention. Locality and
        unrelated questions are to be answered in the words of the base model.
        """
        asked: dict[str, list[tuple[str, str | None]]] = {name: [] for name in METRICS}
        for one in probes(edits):
            metric = one.metric.split()[-1]
            asked[metric].append((one.prompt, one.edit.target if one.edit else None))
        asked["unrelated"] = [(text, None) for text in self._unrelated]
        found: dict[str, Any] = {"counts": {}}
        for metric, rows in asked.items():
            rows = sorted(rows, key=lambda row: json_digest(row[0]))[: self._most]
            oks = self._ask(edited, rows)
            found[metric] = round(sum(oks) / len(oks), 4) if oks else None
            found["counts"][metric] = len(oks)
        pair = perplexities(edited, self._texts)
        found["perplexity_ratio"] = round(pair[0] / pair[1], 4) if pair else None
        return found

    def _ask(self, edited: EditedModel, rows: Sequence[tuple[str, str | None]]) -> list[bool]:
        said = generate_answers(edited, [prompt for prompt, _ in rows], max_new_tokens=TOKENS)
        new = [prompt for prompt, target in rows if target is None and prompt not in self._base]
        before = generate_answers(edited, new, max_new_tokens=TOKENS, base_only=True)
        self._base.update((p, answer.text) for p, answer in zip(new, before, strict=True))
        if self._kept and new:
            self._kept.write_text(json.dumps(self._base), "utf-8")
        return [
            is_unchanged(answer.text, self._base[prompt])
            if target is None
            else is_hit(answer.text, (target,))
            for (prompt, target), answer in zip(rows, said, strict=True)
        ]


def settings(text: str) -> dict[str, str]:
    """Read `a=1,b=2`."""
    return dict(item.split("=", 1) for item in text.split(",") if item)
