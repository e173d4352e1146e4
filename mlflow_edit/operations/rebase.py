"""Carry the edits of a version to another base model, by learning them again."""

import time
from collections.abc import Mapping, Sequence
from typing import Literal

from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.manifest import BaseRef
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.errors import InvalidInputError, NotConverged
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.evaluation.probes import collect_probes, is_right
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.authorship import checked_author, checked_message
from mlflow_edit.operations.carrying import Carried, carry, in_order
from mlflow_edit.operations.init import pin_base
from mlflow_edit.operations.measuring import try_out
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.publication import Publication
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.version_view import VersionDetail, detail, other_heads
from mlflow_edit.patches.composition import Composition
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.pinned_base import keep_encoder, load_pinned
from mlflow_edit.registry.registry import Registry, VersionInfo

State = Literal["holds", "not-needed", "lost"]
NOTHING = Suite("none", (), ())


class RebasedEdit(FrozenModel):
    """What became of one edit.

    `holds`: it was learned again, and the new version answers with its target. `not-needed`: the
    new base model does so by itself. `lost`: it could not be learned, or does not answer.
    `before` and `after` are the new base model's answer and the new version's.
    """

    id: str
    batch: str
    prompt: str
    target: str
    state: State
    before: str
    after: str


class Rebased(VersionDetail):
    """A version over another base model, and what became of each edit that was carried."""

    source: int
    rebased: tuple[RebasedEdit, ...] = ()


def rebase(
    ref: str,
    *,
    onto: str,
    keep_needless: bool = False,
    message: str = "",
    author: str | None = None,
    measured: bool = True,
    suite: Suite | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Rebased:
    """Register a version of the same model over another base model, its edits learned again.

    Batches are learned in the order of history, by the same editors with the same settings, deltas
    on top of those before them. The new version's parent is the one that it was made from. Edits
    that are not in force are left behind; a batch that a merging strategy made is learned as the
    batches that it was made of.

    Args:
        ref: `NAME@REF`.
        onto: the new base model, as `init` takes it.
        keep_needless: learn edits as well that the new base model answers right by itself.
        message: why.
        author: who; None takes `MLEDIT_AUTHOR`, git's user or the account.
        measured: measure the new version; else its scorecard is empty.
        suite: what to measure test retention and perplexity on; None takes the shipped one.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: the version is over this base model already, or has no edits.
        NotConverged: nothing could be learned, and something had to be; nothing was registered.
        UnsupportedModel, UnknownEditor: an editor cannot edit the new base model, or is not here.
    """
    started = time.time()
    author, message = checked_author(author), checked_message(message)
    registry, reporter = open_registry(registry), reporter or Silent()
    info = registry.resolve(parse_ref(ref))
    manifest = registry.manifest(info)
    old = in_order(registry, info, manifest)
    if not old:
        raise InvalidInputError(f"{ref} has no edits", hint=f"mledit init NAME --base {onto}")
    reporter.stage(f"finding the base model {onto}")
    target = pin_base(onto, registry, reporter)
    if target.digest == manifest.base.digest:
        raise InvalidInputError(f"{ref} is over {onto} already", hint="Nothing is to be done.")
    reporter.stage("loading the base model")
    carried = Carried(load_pinned(registry, target))
    edits = [edit for batch in old for edit in batch.edits]
    reporter.stage("asking the new base model")
    before = _answers(carried, edits)
    needless = {digest for digest, row in before.items() if row.ok} if not keep_needless else set()
    for batch in old:
        carry(carried, batch, needless, reporter)
    if not carried.batches and len(needless) < len(before):
        raise NotConverged(
            "none of the edits could be learned on the new base model; nothing was registered",
            edits=[edit.id for edit in edits if edit.digest not in needless],
            hint="Apply them by another editor: mledit init NEW --base …; mledit apply NEW …",
        )
    reporter.stage("asking the new version")
    after = _answers(carried, edits, edited=True)
    rebased = tuple(
        _state(batch.digest, edit, needless, before, after, carried)
        for batch in old
        for edit in batch.edits
    )
    for one in rebased:
        if one.state == "lost":
            reporter.warn(f"no longer holds: {one.id} ({one.prompt!r})")
    return _publish(
        registry, info, target, carried, rebased, started=started, author=author,
        message=message or f"Rebase @{info.version} onto {target.source or onto}",
        measured=measured, suite=suite, reporter=reporter,
    )  # fmt: skip


def _answers(
    carried: Carried, edits: Sequence[Edit], *, edited: bool = False
) -> dict[str, ProbeResult]:
    """Ask every edit's prompt, freely generated; return what was answered, by the edit's digest."""
    composition = carried.composition() if edited else Composition()
    with EditedModel(carried.base, composition) as model:
        once = {edit.digest: edit for edit in edits}
        probes = [
            probe
            for probe in collect_probes(model, list(once.values()), frozenset(once), NOTHING)
            if probe.metric == "reliability"
        ]
        length = max(probe.max_new_tokens for probe in probes)
        answers = generate_answers(model, [p.prompt for p in probes], max_new_tokens=length)
        return {
            digest: ProbeResult(
                metric="reliability",
                edit_id=probe.edit_id,
                prompt=probe.prompt,
                expected=probe.expected,
                before="",
                after=answer.text,
                ok=is_right(model, answer.text, probe.expected),
            )
            for digest, probe, answer in zip(once, probes, answers, strict=True)
        }


def _state(
    batch: str,
    edit: Edit,
    needless: set[str],
    before: Mapping[str, ProbeResult],
    after: Mapping[str, ProbeResult],
    carried: Carried,
) -> RebasedEdit:
    learned = (batch, edit.id) in carried.of
    answered = after[edit.digest].ok
    state: State = "holds" if learned and answered else "lost"
    if edit.digest in needless and answered:
        state = "not-needed"
    return RebasedEdit(
        id=edit.id,
        batch=batch,
        prompt=edit.prompt,
        target=edit.target,
        state=state,
        before=before[edit.digest].after,
        after=after[edit.digest].after,
    )


def _publish(
    registry: Registry,
    source: VersionInfo,
    target: BaseRef,
    carried: Carried,
    rebased: tuple[RebasedEdit, ...],
    *,
    started: float,
    author: str,
    message: str,
    measured: bool,
    suite: Suite | None,
    reporter: Reporter,
) -> Rebased:
    in_force = [
        ((digest, edit.id), edit)
        for digest, batch in carried.batches.items()
        for edit in batch.edits
        if (digest, edit.id) not in carried.content.excluded()
    ]
    with EditedModel(carried.base, carried.composition()) as edited:
        trial = try_out(edited, in_force, frozenset(), suite, reporter, measured=measured)
    for batch in carried.batches.values():
        keep_encoder(registry, batch.patch, reporter.stage)
    publication = Publication(
        name=source.name,
        verb="rebase",
        base=target,
        parents=(source,),
        content=carried.content,
        trial=trial,
        author=author,
        message=message,
        started=started,
        relearned=tuple(carried.batches.values()),
    )
    info, manifest, told, review = publication.publish(registry, reporter)
    warnings = (*told, *other_heads(registry, info))
    card = trial.evaluation.scorecard
    shown = detail(info, manifest, card, warnings=warnings, review=review)
    return Rebased(**shown.model_dump(), source=source.version, rebased=rebased)
