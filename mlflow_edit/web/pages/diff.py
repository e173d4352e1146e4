"""What differs between two versions of a model."""

from dataclasses import dataclass

from flask import Response

from mlflow_edit.core.diff import DiffEdit, EditsDiff
from mlflow_edit.operations.diff import diff_versions
from mlflow_edit.registry.registry import VersionInfo
from mlflow_edit.review.words import Span, changed_words
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.paging import part_of
from mlflow_edit.web.rendering import page
from mlflow_edit.web.scores import score_rows

SHOWN = 200  # edits on one page
TEXT = 400  # characters of a prompt or target
OFFERED = 200  # versions that the form suggests


@dataclass(frozen=True, slots=True)
class EditChange:
    """One edit that only one version answers by, or that they answer by differently."""

    kind: str
    id: str
    prompt: str
    old: list[Span]
    new: list[Span]
    batches: tuple[str, ...]


def diff(asked: Asked) -> Response:
    """Compare the version `version` with the older `with`; without that, with its first parent.

    Radii and weights are compared where `scopes` asks for it: every patch is read for that.
    """
    new = asked.version()
    old = asked.version("with", default=_first_parent(asked, new))
    scopes = asked.parameter("scopes", "") == "1"
    found = diff_versions(old, new, scopes=scopes, registry=asked.registry)
    measured = [{m.metric: v for m in found.scorecard if (v := getattr(m, side)) is not None}
                for side in ("new", "old")]  # fmt: skip
    part = part_of(_listed(found.edits), asked, SHOWN)
    return page(
        "diff.html",
        name=asked.name,
        old=old,
        new=new,
        found=found,
        part=part,
        changes=[_change(kind, was, now) for kind, was, now in part.items],
        counts=(len(found.edits.added), len(found.edits.removed), len(found.edits.changed)),
        scores=score_rows(*measured),
        scopes=scopes,
        offered=asked.versions[: -OFFERED - 1 : -1],
    )


def _first_parent(asked: Asked, info: VersionInfo) -> str:
    """Return the number of a version's first parent, or its own where it has none."""
    known = {one.digest: one.version for one in asked.versions}
    return str(next((known[p] for p in info.parents if p in known), info.version))


def _listed(edits: EditsDiff) -> list[tuple[str, DiffEdit | None, DiffEdit | None]]:
    """List changed edits first, then those that went, then those that came."""
    return [
        *(("changed", one.old, one.new) for one in edits.changed),
        *(("removed", one, None) for one in edits.removed),
        *(("added", None, one) for one in edits.added),
    ]


def _change(kind: str, was: DiffEdit | None, now: DiffEdit | None) -> EditChange:
    sides = [one for one in (was, now) if one is not None]
    old, new = changed_words(was.target if was else "", now.target if now else "", TEXT)
    return EditChange(
        kind,
        " → ".join(dict.fromkeys(one.id for one in sides)),
        sides[-1].prompt,
        old,
        new,
        tuple(one.batch for one in sides),
    )
