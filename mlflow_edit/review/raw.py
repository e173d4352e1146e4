"""The numbers and answers of a review inside its page, as a link that works without script."""

import base64
import gzip
import json
from dataclasses import dataclass

from markupsafe import Markup

from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.review import Review

RAW_SCHEMA = "mledit.review/1"
MOST = 350_000  # bytes, packed
PARTS = {"name", "verb", "comparison", "scorecard", "unsolved", "weights", "editor", "params"}
COLUMNS = ("metric", "edit_id", "prompt", "before", "after", "ok", "fired")


@dataclass(frozen=True, slots=True)
class Raw:
    """Raw data as JSON, packed by gzip into a `data:` link, and how many bytes they are packed."""

    link: Markup
    n_bytes: int


def raw_data(review: Review) -> Raw | None:
    """Pack what was measured, and each answer that an edit gave or changed, or that is not right.

    None where that is too much for a page. The edits themselves and the manifest are stored beside
    the page.
    """
    given = review.model_dump_json(include=PARTS, exclude_defaults=True)
    rows = [
        (row.metric, row.edit_id, row.prompt, row.before, row.after, row.ok, _fired(row))
        for row in review.results
        if row.fired or not row.ok or row.before != row.after
    ]
    answers = json.dumps(
        {
            "schema": RAW_SCHEMA,
            "digest": review.manifest.digest,
            "answers": {"columns": COLUMNS, "data": rows},
        },
        separators=(",", ":"),
    )
    packed = gzip.compress(f"{answers[:-1]},{given[1:]}".encode(), mtime=0)
    if len(packed) > MOST:
        return None
    link = "data:application/gzip;base64," + base64.b64encode(packed).decode()
    return Raw(Markup(link), len(packed))


def _fired(row: ProbeResult) -> str | None:
    return row.fired.edit_id if row.fired else None
