"""What a version asks its reviewers: each edit that it changes, and what became of it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mlflow_edit.core.approval import Change, Question
from mlflow_edit.core.conflicts import in_force
from mlflow_edit.core.content import Content
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.markdown import PROSE, plain
from mlflow_edit.core.text import counted, how_near
from mlflow_edit.operations.edit_changes import read_edits
from mlflow_edit.registry.names import RESULTS
from mlflow_edit.registry.registry import Registry, VersionInfo

MAX_ROWS, MAX_CELL, MAX_SHOWN = 20, 400, 4000  # of a list, of a line in it, of a text
NOTHING = Content({}, frozenset())

Row = dict[str, Any]


def changes_against(
    registry: Registry, before: Sequence[Manifest], manifest: Manifest
) -> list[Change]:
    """Return what a version changes against others; where that is no edit, the version itself.

    Nothing, where it does just what they do.
    An edit is new where none of the others answers by it, and taken out where one of them does and
    the version does not: of a merge, what one side has and the merged version keeps is no change.
    Over another base model every edit is new. Only batches in which they differ are read.
    """
    if before and all(one.content_digest == manifest.content_digest for one in before):
        return []
    moved = any(one.base.digest != manifest.base.digest for one in before)
    new = Content.of(manifest)
    others = [NOTHING] if moved or not before else [Content.of(one) for one in before]
    edits = read_edits(registry, new, *others)
    now = {edit.digest: edit for _, edit in in_force(new, edits)}
    known = {
        edit.digest: edit
        for other in others
        for _, edit in in_force(other, {b: e for b, e in edits.items() if b in other.batches})
    }
    changes = [Change("new", digest, now[digest]) for digest in now if digest not in known]
    changes += [Change("taken-out", digest, known[digest]) for digest in known if digest not in now]
    return changes or [Change("version", manifest.content_digest)]


def questions_of(registry: Registry, info: VersionInfo, manifest: Manifest) -> list[Question]:
    """Return what a version asks: its changes against its parents, as they were measured."""
    versions = {one.digest: one for one in registry.versions(info.name)}
    parents = [versions[digest] for digest in manifest.parents if digest in versions]
    if not parents:
        return []
    manifests = [registry.manifest(parent) for parent in parents]
    now, earlier = _Measured(registry, [info]), _Measured(registry, parents)
    return [
        _question(change, info, manifest, now, earlier)
        for change in changes_against(registry, manifests, manifest)
    ]


class _Measured:
    """The rows worth reading of what was measured of some versions, found by what was asked."""

    def __init__(self, registry: Registry, versions: Sequence[VersionInfo]) -> None:
        rows = [row for info in versions for row in _rows(registry, info)]
        own = [row for row in rows if row["metric"] in ("reliability", "retention")]
        self.own = {row["prompt"]: row for row in own}
        self.probes = {(row["metric"], row["prompt"]): row for row in rows}
        self.moved: dict[str, list[Row]] = {}  # by the edit that fired
        for row in rows:
            if row["metric"] in ("locality", "test_retention") and row["before"] != row["after"]:
                self.moved.setdefault(row["fired"] or "", []).append(row)

    def moved_by(self, edit: Edit) -> list[Row]:
        """Return what should have stayed as it was: where the edit fired, and its own probes."""
        own = [self.probes.get(("locality", probe.prompt)) for probe in edit.locality]
        rows = [row for row in own if row is not None and row["before"] != row["after"]]
        return rows + [row for row in self.moved.get(edit.id, []) if row not in rows]


def _question(
    change: Change, info: VersionInfo, manifest: Manifest, now: _Measured, earlier: _Measured
) -> Question:
    """Write a change as a question and an answer, in Markdown."""
    edit = change.edit
    if edit is None:
        request = f"{info.name}@{info.version}: {_cut(manifest.message)}"
        response = [
            f"The version as a whole: {counted(info.n_edits, 'edit')} in force, none of them new."
        ]
    elif change.kind == "new":
        request, response = _request(edit), list(_learned(edit, now))
    else:
        request, response = _request(edit), list(_taken_out(edit, earlier))
    asked = change.question(info.digest, manifest.base.digest)
    return Question(asked, change.label, request, "\n\n".join(response))


def _request(edit: Edit) -> str:
    """Write the prompt, then the probes that score the edit."""
    probes = (
        ("Rephrases", edit.rephrases),
        ("Follows from it", [probe.prompt for probe in edit.portability]),
        ("Must stay as it is", [probe.prompt for probe in edit.locality]),
    )
    told = [f"{title}: {_joined(prompts)}" for title, prompts in probes if prompts]
    return "\n\n".join([_cut(edit.prompt), *told])


def _learned(edit: Edit, now: _Measured) -> Iterator[str]:
    """Yield what became of an edit: before and after, its probes, what else moved, why."""
    own = now.own.get(edit.prompt)
    if own is None:
        yield f"To be answered: **{_cut(edit.target)}**. It was not measured."
    else:
        held = "As wanted." if own["ok"] else f"**Not as wanted:** {_cut(edit.target)}"
        before, after = (_cut(own[name]) or "(nothing)" for name in ("before", "after"))
        yield f"{before} → {after}"
        yield held
        if own["fired"]:
            near = how_near(own["distance"], own["radius"], own.get("match"))
            yield f"The edit {_cut(own['fired'])} fired: {near}."
        yield from _probes("Rephrases", "generality", edit.rephrases, now)
        follows = [probe.prompt for probe in edit.portability]
        yield from _probes("Follows from it", "portability", follows, now)
        moved = now.moved_by(edit)
        yield "**What else moved**" + ("" if moved else ": nothing that was measured")
        told = [
            f"{_cell(row['prompt'])}: {_cell(row['before'])} → {_cell(row['after'])}"
            for row in moved
        ]
        yield from _listed(told)
    remarks = (("Why", edit.note), ("Source", edit.source), ("Edit by", edit.author))
    for title, remark in remarks:
        if remark:
            yield f"{title}: {_cut(remark)}"


def _probes(title: str, metric: str, prompts: Sequence[str], now: _Measured) -> Iterator[str]:
    """Yield a list of probes; what is not in the table of results is as before."""
    if not prompts:
        return
    rows = [now.probes.get((metric, one), {"after": "as before", "ok": False}) for one in prompts]
    yield f"**{title}**"
    yield from _listed(
        [
            f"{_cell(prompt)} → {_cell(row['after'])}, {'' if row['ok'] else '**not** '}as wanted"
            for prompt, row in zip(prompts, rows, strict=True)
        ]
    )


def _taken_out(edit: Edit, earlier: _Measured) -> Iterator[str]:
    own = earlier.own.get(edit.prompt)
    yield "**Taken out.** The version no longer answers by this edit."
    if own is not None:
        yield f"Until now: {_cut(own['after'])}"
        yield f"The base model: {_cut(own['before'])}"


def _listed(lines: Sequence[str]) -> Iterator[str]:
    """Yield a list: MLflow cuts tables off where there is little room."""
    more = len(lines) - MAX_ROWS
    told = [*lines[:MAX_ROWS], *([f"… and {more:,} more"] if more > 0 else [])]
    if told:
        yield "\n".join(f"- {line}" for line in told)


def _rows(registry: Registry, info: VersionInfo) -> list[Row]:
    """Read the table of what was measured; no rows where it is missing or malformed."""
    table = registry.document(info, RESULTS)
    try:
        found = json.loads(table) if table else {"columns": [], "data": []}
        rows = [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):  # for reading, not for law
        return []
    return [row for row in rows if _is_whole(row)]


def _is_whole(row: Row) -> bool:
    texts = all(isinstance(row.get(name), str) for name in ("metric", "prompt", "before", "after"))
    if row.get("fired", 0) is None:
        return texts and "ok" in row
    numbers = all(isinstance(row.get(name), int | float) for name in ("distance", "radius"))
    match = row.get("match")  # not in tables of earlier releases
    sure = match is None or (isinstance(match, int | float) and 0 <= match <= 1)
    return texts and "ok" in row and isinstance(row.get("fired"), str) and numbers and sure


def _joined(texts: Sequence[str]) -> str:
    told = " · ".join(_cell(text) for text in texts[:MAX_ROWS])
    more = len(texts) - MAX_ROWS
    return f"{told} … and {more:,} more" if more > 0 else told


def _cut(text: str) -> str:
    return plain(text, MAX_SHOWN, PROSE)


def _cell(text: str) -> str:
    return plain(text, MAX_CELL, PROSE)
