"""1,000 edits: are rephrased questions answered, and is everything else left alone?

    python tests/benchmarks/generality.py --data FOLDER --set zsre+counterfact --n-edits 1000

Subjects are those that the scope head was not trained on, and whose failures nobody looked at when
it was made (`share_of` of examples/scope_head). No probe is given to an edit. Everything is judged
by free generation; where no edit fires the edited model's computation is the base's, so only what
fires is generated twice.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import arguments, base_model, report

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "scope_head"))
from facts import share_of

from mlflow_edit.core.answers import is_hit, is_unchanged
from mlflow_edit.core.edit import Edit, normal_text
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.editors.encoder_entries import encoder_codebook
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.evaluation.teacher_forcing import perplexities
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.patches.composition import Part, compose

BATCH = "0" * 64
TOKENS = 24
HAND_MADE = ("freeform", "everyday")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Asked(NamedTuple):
    """A prompt (or conversation), what it is counted under, and the edit that should answer."""

    metric: str
    prompt: Any
    edit: Edit | None


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def edits_of(folder: Path, names: Sequence[str], n_edits: int, share: str) -> list[Edit]:
    """Read edits on subjects of a share: one for each fact, where data sets edit one twice."""
    found, facts, prompts = [], set(), set()
    for name in names:
        for row in read(folder / f"{name}.jsonl"):
            if share_of(row["subject"]) != share:
                continue
            fact = (row["subject"].casefold(), row.get("old") or row["prompt"])
            texts = {normal_text(text) for text in (row["prompt"], *row["rephrases"])}
            if fact in facts or texts & prompts:
                continue
            facts.add(fact)
            prompts |= texts
            locality = [p for p in row["locality"] if not asks_the_fact(row, p)]
            fields = ("id", "subject", "prompt", "target", "rephrases")
            known = {key: row[key] for key in fields}
            known["locality"] = [{"prompt": p["prompt"]} for p in locality]
            found.append(Edit(**known))
            if len(found) == n_edits:
                return found
    return found


def asks_the_fact(row: dict[str, Any], probe: dict[str, Any]) -> bool:
    """Tell whether a locality probe asks for the edited fact itself: noise of the source."""
    about = normal_text(row["subject"]) in normal_text(probe["prompt"])
    return about and row.get("old") in probe["answers"]


def probes(edits: Sequence[Edit]) -> list[Asked]:
    """List what is asked; a locality probe that is the very prompt of another edit is left out."""
    asked = []
    prompts = {normal_text(edit.prompt) for edit in edits}
    for edit in edits:
        kind = edit.id.split("-")[0]
        asked.append(Asked(f"{kind} reliability", edit.prompt, edit))
        asked += [Asked(f"{kind} generality", text, edit) for text in edit.rephrases]
        others = [p.prompt for p in edit.locality if normal_text(p.prompt) not in prompts]
        asked += [Asked(f"{kind} locality", text, None) for text in others]
    return asked


def hand_made(name: str, share: str) -> tuple[list[Edit], list[Asked]]:
    """Read hand-made wordings of a share. Of those with a subject half choose, half score."""
    edits, asked = [], []
    for row in read(Path(__file__).parent / f"{name}.jsonl"):
        scores = "subject" not in row or share_of(row["subject"]) == "test"
        if scores != (share == "test"):
            continue
        known = {key: row[key] for key in ("id", "subject", "prompt", "target") if key in row}
        edit = Edit(**known)
        edits.append(edit)
        for field, expected in (("asks", edit), ("keeps", None)):
            for one in row[field]:
                prompt = one.get("messages") or one["prompt"]
                asked.append(Asked(f"{field} {one['style']}", prompt, expected))
    return edits, asked


def main() -> None:
    args = arguments(
        __doc__,
        data=None,
        set="zsre+counterfact",
        n_edits=1000,
        share="test",
        params="",
        n_others=0,
        n_unrelated=1000,
        n_texts=40,
        answers=1,
        out=None,
    )
    base = base_model(args.base)
    folder = Path(args.data)
    edits: list[Edit] = []
    asked: list[Asked] = []
    names = args.set.split("+")
    for name in {*HAND_MADE} & {*names}:
        names.remove(name)
        edits, asked = hand_made(name, args.share)
    others = edits_of(folder, names, args.n_edits - len(edits), args.share)
    if not asked:
        asked = probes(others)
        questions = read(folder / "nq_open.jsonl")[: args.n_unrelated]
        asked += [Asked("unrelated", row["prompt"], None) for row in questions]
    edits = edits + others
    asks = {normal_text(edit.prompt) for edit in edits}
    more = edits_of(folder, names, args.n_others, "train") if args.n_others else []
    edits += [edit for edit in more if normal_text(edit.prompt) not in asks]  # never asked
    texts = [row["text"] for row in read(folder / "text.jsonl")[: args.n_texts]]
    params = dict(item.split("=") for item in args.params.split(",") if item)
    if not args.answers:
        site = locate(base.model, scope="encoder")
        nothing = [torch.zeros(1, base.model.config.hidden_size)] * len(edits)
        book = encoder_codebook(base, site, edits, nothing, threshold=0.5)
        with EditedModel(base, compose([Part(BATCH, book)])) as edited:
            near = decisions(edited, asked)
            after, before = perplexities(edited, texts)
        found = [(one, True, (*what, None)) for one, what in zip(asked, near, strict=True)]
        counts = Counter(one.metric for one in asked)
        ratio = after / before
        report(
            set=args.set,
            n_edits=len(edits),
            counts=counts,
            perplexity_ratio=ratio,
            curve=curve(found),
        )
        return
    start = time.perf_counter()
    editor = find_editor("grace", {"scope": "encoder", **params})
    learning = editor.learn(base, EditBatch(tuple(edits)), lambda *said: None)
    seconds = (time.perf_counter() - start) / len(edits)
    solved = sum(outcome.solved for outcome in learning.outcomes)
    print(f"{len(edits)} edits, {solved} solved, {seconds:.2f} s each", flush=True)
    with EditedModel(base, compose([Part(BATCH, learning.patch)])) as edited:
        found = judge(edited, asked)
        after, before = perplexities(edited, texts)
    figures: dict[str, list[bool]] = {}
    for one, ok, _ in found:
        figures.setdefault(one.metric, []).append(ok)
    report(
        set=args.set,
        n_edits=len(edits),
        n_solved=solved,
        seconds_per_edit=seconds,
        params=params,
        perplexity_ratio=after / before,
        **{name: round(sum(oks) / len(oks), 4) for name, oks in sorted(figures.items())},
        counts={name: len(oks) for name, oks in sorted(figures.items())},
        curve=curve(found),
    )
    if args.out:
        Path(args.out).write_text("\n".join(json.dumps(row_of(*row)) for row in found) + "\n")


def judge(edited: EditedModel, asked: Sequence[Asked]) -> list[tuple[Asked, bool, Any]]:
    """Ask all; return for each whether it is as it should be, and what the scope made of it."""
    near = decisions(edited, asked)
    decided = [decision for decision, _, _ in near]
    fires = [i for i, d in enumerate(decided) if d.in_scope]
    prompts = [asked[i].prompt for i in fires]
    after = generate_answers(edited, prompts, max_new_tokens=TOKENS)
    wrong = [k for k, i in enumerate(fires) if asked[i].edit is None]
    before = generate_answers(
        edited, [prompts[k] for k in wrong], max_new_tokens=TOKENS, base_only=True
    )
    unchanged = {
        fires[k]: is_unchanged(after[k].text, b.text) for k, b in zip(wrong, before, strict=True)
    }
    said = dict(zip(fires, after, strict=True))
    result = []
    for i, one in enumerate(asked):
        if one.edit is None:
            ok = unchanged.get(i, True)
        else:
            ok = i in said and is_hit(said[i].text, (one.edit.target,))
        result.append((one, ok, (*near[i], said[i].text if i in said else None)))
    return result


def decisions(edited: EditedModel, asked: Sequence[Asked]) -> list[tuple[Any, Any, str]]:
    """Return for each prompt what the scope decides, of which edit, and that edit's label."""
    book = edited.composition.patches[0]
    scope = book.scope(edited.encoder(book.encoder))
    decided = []
    for start in range(0, len(asked), 64):
        some = [edited.query_of(one.prompt) for one in asked[start : start + 64]]
        decided += [found[0] for found in scope.nearest(some)]
    return [(d, book.edit_ids[d.entry], book.labels[d.entry]) for d in decided]


def curve(found: Sequence[tuple[Asked, bool, Any]]) -> dict[str, list[float]]:
    """Return by threshold the share of probes on which the scope does what it should."""
    rows: dict[str, list[float]] = {"threshold": list(THRESHOLDS)}
    for metric in sorted({one.metric for one, _, _ in found}):
        mine = [(one, near) for one, _, near in found if one.metric == metric]
        rows[metric] = [
            round(
                sum(
                    (d.match >= t and label == one.edit.label_digest) if one.edit else d.match < t
                    for one, (d, _, label, _) in mine
                )
                / len(mine),
                4,
            )
            for t in THRESHOLDS
        ]
    return rows


def row_of(one: Asked, ok: bool, near: Any) -> dict[str, Any]:
    decision, edit_id, _, said = near
    wanted = one.edit.id if one.edit else None
    return {
        "metric": one.metric,
        "prompt": one.prompt,
        "wanted": wanted,
        "ok": ok,
        "nearest": edit_id,
        "match": round(decision.match, 4),
        "fired": decision.in_scope,
        "answer": said,
    }


if __name__ == "__main__":
    main()
