"""The rows of the review page: edits before and after, and what else moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, islice
from operator import not_

from mlflow_edit.core.answers import is_unchanged
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.review import Review
from mlflow_edit.review.summary import earlier_edits
from mlflow_edit.review.words import Span, changed_words

PROBES_SHOWN = 200
UNMOVED_SHOWN = 20  # of the probes that fail, but are answered as the base model answers them
STATES = ("failed", "not learned", "not measured", "ok")
PROBES_OF_EDITS = ("generality", "locality", "portability")


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt as the page shows it: before → after, and which edit fired."""

    row: ProbeResult
    same: bool
    before: list[Span]
    after: list[Span]


@dataclass(frozen=True, slots=True)
class EditRow:
    """One edit, what it was measured to do, and how many of its probes are as they should be."""

    edit: Edit
    state: str
    answer: Answer | None
    probes: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The answers of one metric that are not as they should be, out of `n_all`."""

    title: str
    meaning: str
    answers: list[Answer]
    n_moved: int
    n_all: int


def edit_rows(review: Review, limit: int) -> list[EditRow]:
    """List the edits, failures first; texts are cut to about `limit` characters."""
    asked = {row.edit_id: row for row in review.results if row.metric == "reliability"}
    unsolved = {item.edit_id for item in review.unsolved}
    probes: dict[str, list[ProbeResult]] = {}
    for row in review.results:
        if row.edit_id is not None and row.metric in PROBES_OF_EDITS:
            probes.setdefault(row.edit_id, []).append(row)
    rows = [
        EditRow(
            edit,
            _state(asked.get(edit.id), edit.id in unsolved),
            _answer(asked[edit.id], limit) if edit.id in asked else None,
            _probe_count(probes.get(edit.id, [])),
        )
        for edit in review.edits
        if edit.id in asked or edit.id not in unsolved
    ]
    return sorted(rows, key=lambda row: STATES.index(row.state))


def _state(result: ProbeResult | None, unsolved: bool) -> str:
    if unsolved:
        return "not learned"
    if result is None:
        return "not measured"
    return "ok" if result.ok else "failed"


def _probe_count(rows: Sequence[ProbeResult]) -> str:
    if not rows:
        return ""
    text = f"{sum(row.ok for row in rows)} of {len(rows)} probes"
    failed = [
        metric for metric in PROBES_OF_EDITS if any(r.metric == metric and not r.ok for r in rows)
    ]
    return f"{text}; not all {', '.join(failed)}" if failed else text


def _answer(row: ProbeResult, limit: int) -> Answer:
    before, after = changed_words(row.before, row.after, limit)
    return Answer(row, is_unchanged(row.after, row.before), before, after)


def moved_groups(review: Review, limit: int) -> list[Moved]:
    """Group the probes that are not as they should be, what reviewers fear most first."""
    by_metric: dict[str, list[ProbeResult]] = {}
    for row in review.results:
        by_metric.setdefault(row.metric, []).append(row)
    test = by_metric.get("test_retention", [])
    groups = (
        (
            "Unrelated answers that changed",
            "Locality: these must be answered just as the base model answers them.",
            by_metric.get("locality", []),
        ),
        (
            "New wrong answers on the base model's test data",
            "Wrong now, and not what the base model answered. Test retention counts only what the "
            "base model answered right.",
            [row for row in test if row.ok or not is_unchanged(row.after, row.before)],
        ),
        (
            "Earlier edits that no longer hold",
            "Retention: edits of earlier versions, asked again after the last edit.",
            earlier_edits(review),
        ),
        (
            "Rephrases that failed",
            "Generality: the same question in other words must get the target too.",
            by_metric.get("generality", []),
        ),
        (
            "Consequences that failed",
            "Portability: what follows from an edit must be answered right too.",
            by_metric.get("portability", []),
        ),
    )
    return [_group(*group, limit=min(limit, 600)) for group in groups if group[2]]


def _group(title: str, meaning: str, rows: Sequence[ProbeResult], *, limit: int) -> Moved:
    failed = [row for row in rows if not row.ok]
    moved = [row.fired or not is_unchanged(row.after, row.before) for row in failed]
    shown = list(islice(compress(failed, moved), PROBES_SHOWN))
    shown += islice(compress(failed, map(not_, moved)), UNMOVED_SHOWN)
    return Moved(title, meaning, [_answer(row, limit) for row in shown], len(failed), len(rows))
