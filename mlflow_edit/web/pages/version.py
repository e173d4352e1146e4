"""One version: who changed what and why, how it measures, and what was decided of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Response

from mlflow_edit.core.gate import other_protocol
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.operations.show import Shown, ShownEdit, show_version
from mlflow_edit.registry.registry import VersionInfo, heads
from mlflow_edit.review.words import Span, changed_words
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.offers import offers
from mlflow_edit.web.paging import part_of
from mlflow_edit.web.rendering import page
from mlflow_edit.web.scores import score_rows
from mlflow_edit.web.standing import record_of

SHOWN = 100  # edits on one page
TEXT = 300  # characters of a prompt, answer or target
STATES = ("failed", "not measured", "ok")
PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class EditRow:
    """One edit, and what it was measured to do: before → after, the differing words marked."""

    edit: ShownEdit
    state: str
    before: list[Span]
    after: list[Span]


@dataclass(frozen=True, slots=True)
class Other:
    """A version that this one is compared with, as `title`."""

    title: str
    info: VersionInfo
    scorecard: Scorecard


def version(asked: Asked) -> Response:
    """Show a version; of its edits the page that is asked for, failures first."""
    info = asked.version()
    shown = show_version(info, asked.versions, asked.registry)
    record = record_of(asked)
    others = _others(asked, info)
    card = Scorecard.model_validate(shown.version.scorecard or {})
    wanted, state = asked.parameter("q", "").strip(), asked.parameter("state", "")
    found = _found(shown.edits, wanted, state)
    part = part_of(found, asked, SHOWN)
    added = {ref.digest for ref in shown.added}
    numbers = {one.digest: one.version for one in asked.versions}
    return page(
        "version.html",
        name=asked.name,
        info=info,
        shown=shown,
        head=asked.versions[-1],
        parents=[numbers[digest] for digest in info.parents if digest in numbers],
        children=[one.version for one in asked.versions if info.digest in one.parents],
        card=card,
        others=others,
        titles=[f"{one.title} {one.info.version}" for one in others],
        batches=shown.version.batches,
        kept=[ref for ref in shown.version.batches if ref.digest not in added],
        scores=score_rows(card.metrics(), *(one.scorecard.metrics() for one in others)),
        counts={s: sum(_state(edit) == s for edit in shown.edits) for s in STATES},
        rows=[_row(edit) for edit in part.items],
        part=part,
        wanted=wanted,
        state=state if state in STATES else "",
        verdicts=list(record.verdicts().get(info.version, {}).values()),
        record=record.about(info.version)[::-1],
        offers=offers(asked, info),
        warnings=[*_warnings(asked, shown, card, others, info), *filter(None, [record.problem])],
    )


def _others(asked: Asked, info: VersionInfo) -> list[Other]:
    """Find what to compare with: each parent, and the version that is in production."""
    found = {one.version: "parent" for one in asked.versions if one.digest in info.parents}
    for one in asked.versions:
        if PRODUCTION in one.aliases and one.version != info.version:
            title = found.get(one.version)
            found[one.version] = f"{title}, {PRODUCTION}" if title else PRODUCTION
    by_number = {one.version: one for one in asked.versions}
    read = asked.registry
    return [
        Other(title, by_number[n], read.scorecard(by_number[n], read.manifest(by_number[n])))
        for n, title in found.items()
    ]


def _found(edits: Sequence[ShownEdit], wanted: str, state: str) -> list[ShownEdit]:
    """Return the edits that hold a text, in a state; failures first."""
    text = wanted.casefold()
    found = [
        edit
        for edit in edits
        if (state not in STATES or _state(edit) == state) and (not text or text in _said(edit))
    ]
    return sorted(found, key=lambda edit: STATES.index(_state(edit)))


def _said(edit: ShownEdit) -> str:
    parts = (edit.id, edit.prompt, edit.target, edit.before, edit.after, edit.author, edit.note)
    return "\n".join(filter(None, (*parts, edit.batch))).casefold()


def _state(edit: ShownEdit) -> str:
    return {None: "not measured", True: "ok", False: "failed"}[edit.ok]


def _row(edit: ShownEdit) -> EditRow:
    before, after = changed_words(edit.before or "", edit.after or "", TEXT)
    return EditRow(edit, _state(edit), before, after)


def _forked(beside: Sequence[int]) -> str:
    """Say which heads there are beside a version."""
    stand = "version {} stands" if len(beside) == 1 else "versions {} stand"
    return f"the history has forked: {stand.format(', '.join(map(str, beside)))} beside this one"


def _warnings(
    asked: Asked, shown: Shown, card: Scorecard, others: Sequence[Other], info: VersionInfo
) -> list[str]:
    """Say what a reader of the numbers and of the history must know."""
    said = [one.said for one in shown.contextual]
    tips = [one.version for one in heads(asked.versions)]
    if info.version in tips and len(tips) > 1:
        said.append(_forked([number for number in tips if number != info.version]))
    for one in others:
        names = other_protocol(card, one.scorecard) if one.scorecard.protocol else []
        if names:
            said.append(
                f"version {one.info.version} ({one.title}) was measured by another protocol "
                f"({', '.join(names)}): read the changes with care"
            )
    return said
