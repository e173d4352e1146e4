"""The review page of a version: one HTML file, nothing to fetch, for MLflow's viewer."""

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlflow_edit.core.answers import is_unchanged
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.review import Review
from mlflow_edit.review import summary
from mlflow_edit.review.charts import BAR_WIDTH, SIZE, scatter
from mlflow_edit.review.words import Span, changed_words, clip, visible

EDITS_SHOWN = 1_000
PROBES_SHOWN = 200
UNMOVED_SHOWN = 20  # of the probes that fail, but are answered as the base model answers them
ID_CHARS = 60
SHORT_CHARS = 60
LONG_CHARS = 4_000
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


def review_page(review: Review) -> str:
    """Write the review page of a version.

    The page is self-contained (style, script and charts are inside it), reads without its script,
    and carries a content security policy that refuses every script but its own.

    Raises:
        jinja2.TemplateError: the template does not fit the package's version.
    """
    limit = _text_limit(len(review.edits))
    edits = _edit_rows(review, limit)
    entries = review.entries[:EDITS_SHOWN]
    return (
        _environment()
        .get_template("page.html")
        .render(
            review=review,
            manifest=review.manifest,
            sentence=summary.one_sentence(review),
            headline=summary.score_lines(review, headline=True),
            further=summary.score_lines(review, headline=False),
            protocol_changes=summary.protocol_changes(review),
            edits=edits[:EDITS_SHOWN],
            states={state: sum(row.state == state for row in edits) for state in STATES},
            fires=any(row.fired for row in review.results),
            moved=_moved(review, limit),
            entries=entries,
            own={edit.id for edit in review.edits},
            scatter=_scatter(review, edits),
            by_meaning=any(entry.scope == "encoder" for entry in entries),
            limit=limit,
            limit_list=PROBES_SHOWN,
            **_assets(),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlflow_edit.review", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(clip=clip, distance=_distance)
    environment.globals.update(
        BAR=BAR_WIDTH, SIZE=SIZE, ID=ID_CHARS, SHORT=SHORT_CHARS, LONG=LONG_CHARS
    )
    return environment


@cache
def _assets() -> dict[str, Markup]:
    """Return the page's own style and script, and the policy that allows these two only."""
    style = re.sub(r"\s*([{};,])\s*|(?<=:)\s+", r"\1", _read("palette.css") + _read("page.css"))
    script = re.sub(r"\n\s*", "\n", _read("page.js"))
    policy = (
        f"default-src 'none'; style-src '{_source_hash(style)}'; "
        f"script-src '{_source_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return {"style": Markup(style), "script": Markup(script), "policy": Markup(policy)}


def _read(name: str) -> str:
    return resources.files("mlflow_edit.review").joinpath(name).read_text("utf-8").strip()


def _source_hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _text_limit(n_edits: int) -> int:
    """Choose how many characters of each text to show, so that the page stays small."""
    return max(140, min(1_500, 60_000 // max(n_edits, 1)))


def _edit_rows(review: Review, limit: int) -> list[EditRow]:
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


def _moved(review: Review, limit: int) -> list[Moved]:
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
            "Answers lost on the base model's test data",
            "Test retention: wrong now, and not what the base model answered.",
            [row for row in test if row.ok or not is_unchanged(row.after, row.before)],
        ),
        (
            "Earlier edits that no longer hold",
            "Retention: edits of earlier versions, asked again after the last edit.",
            summary.earlier_edits(review),
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
    moved = [row for row in failed if row.fired or not is_unchanged(row.after, row.before)]
    as_before = [row for row in failed if row not in moved]
    shown = [*moved[:PROBES_SHOWN], *as_before[:UNMOVED_SHOWN]]
    return Moved(title, meaning, [_answer(row, limit) for row in shown], len(failed), len(rows))


def _scatter(review: Review, edits: Sequence[EditRow]) -> object:
    bad = {row.edit.id for row in edits if row.state in ("failed", "not learned")}
    return scatter(review.entries, new={edit.id for edit in review.edits}, bad=bad)


def _distance(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if math.isfinite(value) else "∞"
