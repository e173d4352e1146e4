"""How long do edits hold, when more of them follow? 1, 10, 100, 1,000, one batch on another.

    python tests/benchmarks/retention.py --data FOLDER --editor memit --work FOLDER >> curves.jsonl

Batches of zsRE and CounterFact edits (half of each, subjects of the test share) are learned in
turn, each with the weights of those before it in force and their edits told to the editor. At every
point all edits so far are asked by free generation: one JSON line. What was learned is kept under
`--work`, so that a run that was stopped, or ended by `--max-seconds`, goes on where it was.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import arguments, base_model, machine
from scoring import Exam, half_of_each, settings

from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.editors.editor import Editor
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.format import read_patch, write_patch


@dataclass
class Sequel:
    """Batches learned one on another: their patches, and what they took."""

    folder: Path
    parts: list[Part] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    solved: list[Edit] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    n_bytes: int = 0

    def add(self, base: BaseModel, editor: Editor[Any], batch: Sequence[Edit]) -> None:
        """Learn one more batch, or read it where it was learned before."""
        number = len(self.parts)
        patch, facts = self.folder / f"{number}.safetensors", self.folder / f"{number}.json"
        if not facts.exists():
            facts.write_text(json.dumps(self._learn(base, editor, batch, patch)))
        known = json.loads(facts.read_text())
        self.parts.append(Part(digest_of(number), read_patch(patch.read_bytes())))
        self.n_bytes += patch.stat().st_size
        self.edits += batch
        self.solved += [edit for edit in batch if edit.id in known["solved"]]
        self.seconds += known["seconds"]
        self.cpu_seconds += known["cpu_seconds"]

    def _learn(
        self, base: BaseModel, editor: Editor[Any], batch: Sequence[Edit], to: Path
    ) -> dict[str, Any]:
        weights = compose(self.parts).weights
        start, worked = time.perf_counter(), time.process_time()
        with weights.attach(base.model) if weights else nullcontext():
            learning = editor.learn(
                base,
                EditBatch(tuple(batch)),
                lambda *said: None,
                earlier=self.solved if weights else (),
            )
        facts = {
            "solved": [o.edit_id for o in learning.outcomes if o.solved],
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - worked,
        }
        to.write_bytes(write_patch(learning.patch))
        return facts


def digest_of(number: int) -> str:
    """Name a batch so that the order of names is the order of learning."""
    return f"{number:064x}"


def batches(edits: Sequence[Edit], points: Sequence[int], size: int) -> Iterator[list[Edit]]:
    """Cut edits into batches that end at every point."""
    start = 0
    for point in points:
        while start < point:
            end = min(start + size, point)
            yield list(edits[start:end])
            start = end


def main() -> None:
    args = arguments(
        __doc__,
        data=None,
        editor="memit",
        params="",
        points="1,10,100,1000",
        batch_size=10,
        work="retention",
        max_seconds=1e9,
        n_unrelated=50,
        n_texts=20,
        most=100,
    )
    until = time.monotonic() + args.max_seconds
    points = [int(point) for point in args.points.split(",")]
    params = settings(args.params)
    base, folder = base_model(args.base), Path(args.data)
    edits = half_of_each(folder, points[-1], "test")
    editor = find_editor(args.editor, params)
    plan = [
        base.digest,
        args.editor,
        editor.params.model_dump(mode="json"),
        args.batch_size,
        points,
    ]
    points = [min(point, len(edits)) for point in points]  # as many as the data have
    work = Path(args.work) / f"{args.editor}-{json_digest(plan)[:12]}"
    work.mkdir(parents=True, exist_ok=True)
    exam = Exam(
        folder,
        n_unrelated=args.n_unrelated,
        n_texts=args.n_texts,
        most=args.most,
        kept=work.parent / f"answers-{base.digest[:12]}.json",
    )
    learned = Sequel(work)
    for batch in batches(edits, points, args.batch_size):
        if time.monotonic() > until:
            sys.exit(f"{len(learned.edits)} edits learned; run again to go on")
        learned.add(base, editor, batch)
        n = len(learned.edits)
        print(f"{n} edits, {len(learned.solved)} solved", file=sys.stderr, flush=True)
        done = work / f"point-{n}.json"
        if n not in points or done.exists():
            continue
        with EditedModel(base, compose(learned.parts)) as edited:
            scores = exam.score(edited, learned.edits)
        line = {
            "editor": args.editor,
            "params": params,
            "n_edits": n,
            "batch_size": args.batch_size,
            "solved": len(learned.solved),
            **scores,
            "seconds_per_edit": round(learned.seconds / n, 2),
            "cpu_seconds_per_edit": round(learned.cpu_seconds / n, 2),
            "bytes_per_edit": round(learned.n_bytes / n),
            "machine": machine(),
        }
        done.write_text(json.dumps(line))
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
