"""The review page of a version: one HTML file, nothing to fetch, for MLflow's viewer."""

import base64
import hashlib
import math
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import takewhile

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlflow_edit.core.results import EntryView, ScopeView
from mlflow_edit.core.review import Review
from mlflow_edit.review import charts, summary
from mlflow_edit.review.raw import raw_data
from mlflow_edit.review.rows import PROBES_SHOWN, STATES, EditRow, edit_rows, moved_groups
from mlflow_edit.review.scatter import SIZE, Scatter, scatter
from mlflow_edit.review.weights import CHANGES_SHOWN, weights_part
from mlflow_edit.review.words import clip, visible

EDITS_SHOWN = 2_000
ID_CHARS = 60
SHORT_CHARS = 60
LONG_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Space:
    """One scope as the page shows it; `listed` entries are those that the version adds."""

    view: ScopeView
    listed: tuple[EntryView, ...]
    scatter: Scatter | None
    by_meaning: bool


def review_page(review: Review) -> str:
    """Write the review page of a version.

    The page is self-contained (style, script and charts are inside it), reads without its script,
    and carries a content security policy that refuses every script but its own.

    Raises:
        jinja2.TemplateError: the template does not fit the package's version.
    """
    limit = _text_limit(len(review.edits))
    edits = edit_rows(review, limit)
    spaces = _spaces(review, edits)
    return (
        _environment()
        .get_template("page.html")
        .render(
            review=review,
            manifest=review.manifest,
            comparison=review.comparison,
            sentence=summary.one_sentence(review),
            verdict=summary.verdict_line(review.comparison.verdict),
            headline=summary.score_lines(review, headline=True),
            further=summary.score_lines(review, headline=False),
            protocol_changes=summary.protocol_changes(review),
            edits=edits[:EDITS_SHOWN],
            states={state: sum(row.state == state for row in edits) for state in STATES},
            fires=any(row.fired for row in review.results),
            moved=moved_groups(review, limit),
            spaces=spaces,
            own={edit.id for edit in review.edits},
            by_meaning=any(space.by_meaning for space in spaces),
            weights=weights_part(review),
            raw=raw_data(review),
            limit=limit,
            limit_list=PROBES_SHOWN,
            **_assets(),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlflow_edit.review", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(clip=clip, distance=_distance, percent=_percent, size=_size)
    environment.globals.update(
        BAR=charts.BAR_WIDTH,
        PLOT=(charts.PLOT_WIDTH, charts.PLOT_HEIGHT),
        SIZE=SIZE,
        ID=ID_CHARS,
        SHORT=SHORT_CHARS,
        LONG=LONG_CHARS,
        CHANGES=CHANGES_SHOWN,
        bar=charts.bar,
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
    path = resources.files("mlflow_edit.review").joinpath("templates", name)
    return path.read_text("utf-8").strip()


def _source_hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _text_limit(n_edits: int) -> int:
    """Choose how many characters of each text to show, so that the page stays small."""
    return max(140, min(1_500, 60_000 // max(n_edits, 1)))


def _spaces(review: Review, edits: list[EditRow]) -> list[Space]:
    new = {edit.id for edit in review.edits}
    bad = {row.edit.id for row in edits if row.state in ("failed", "not learned")}
    found = []
    for view in review.scopes:
        own = tuple(takewhile(lambda entry: entry.edit_id in new, view.entries))
        listed = (own or view.entries)[:EDITS_SHOWN]
        by_meaning = any(entry.scope == "encoder" for entry in view.entries)
        found.append(Space(view, listed, scatter(view, new=new, bad=bad), by_meaning))
    return found


def _distance(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if math.isfinite(value) else "∞"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.3g} %"


def _size(n_bytes: int) -> str:
    return f"{n_bytes:,} bytes" if n_bytes < 10_000 else f"{n_bytes / 1000:,.0f} kB"
