"""The Markdown that the MLflow UI shows on a version's page."""

from collections.abc import Sequence

from mlflow_edit.core.markdown import plain
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.scorecard import HEADLINE, Scorecard
from mlflow_edit.evaluation.evaluate import Evaluation
from mlflow_edit.registry.names import REVIEW
from mlflow_edit.registry.registry import VersionInfo

MAX_CHARACTERS = 4800  # MLflow keeps 5,000
SHOWN_EDITS, SHOWN_NAMES = 20, 5
LINE, CELL = 200, 120


def description(
    info: VersionInfo,
    *,
    message: str,
    author: str,
    base: str,
    evaluation: Evaluation,
    unsolved: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> str:
    """Describe a version: message, scorecard, as many edits as there is room for, where to look.

    Args:
        info: the version.
        message: why.
        author: who.
        base: the digest of the base model.
        evaluation: what was measured.
        unsolved: the ids of edits that were not learned.
        warnings: what a reader must know.
    """
    head = [
        f"**{plain(message, LINE)}** — {plain(author, LINE)}",
        "",
        *_scores(evaluation.scorecard),
    ]
    tail = []
    if unsolved:
        names = ", ".join(plain(edit_id, CELL) for edit_id in unsolved[:SHOWN_NAMES])
        more = len(unsolved) - SHOWN_NAMES
        tail.append(f"\nNot learned: {names}" + (f" and {more} more" if more > 0 else ""))
    tail += [f"\nNote: {plain(said, LINE)}" for said in warnings[:SHOWN_NAMES]]
    tail.append(f"\n{_review_link(info)}. Digest `{info.digest[:12]}`, base model `{base[:12]}`.")
    rows = [row for row in evaluation.results if row.metric == "reliability"]
    room = MAX_CHARACTERS - len("\n".join([*head, *tail]))
    return "\n".join([*head, *_edits(rows, room), *tail])


def _review_link(info: VersionInfo) -> str:
    """Link to the review page inside the MLflow UI, where the store has one."""
    if not info.experiment_id:
        return f"Review page: `{REVIEW}` of run `{info.run_id}`"
    page = f"#/experiments/{info.experiment_id}/runs/{info.run_id}/artifacts/{REVIEW}"
    return f"[Review page]({page}) (`{REVIEW}` of the source run)"


def _scores(scorecard: Scorecard) -> list[str]:
    card = scorecard.model_dump()
    measured = [(name.replace("_", " "), card[name]) for name in HEADLINE if card[name] is not None]
    if not measured:
        return []
    return [
        "| " + " | ".join(name for name, _ in measured) + " |",
        "|" + " --- |" * len(measured),
        "| " + " | ".join(f"{value:.3f}" for _, value in measured) + " |",
    ]


def _edits(rows: Sequence[ProbeResult], room: int) -> list[str]:
    lines = ["", "| asked | before | after | |", "| --- | --- | --- | --- |"]
    room -= len("\n".join(lines)) + 40
    shown = 0
    for row in rows[:SHOWN_EDITS]:
        cells = [plain(text, CELL) for text in (row.prompt, row.before, row.after)]
        line = "| " + " | ".join([*cells, "ok" if row.ok else "**failed**"]) + " |"
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
        shown += 1
    if shown < len(rows):
        lines.append(f"\n… and {len(rows) - shown:,} more.")
    return lines if rows else []
