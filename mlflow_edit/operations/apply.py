"""Learn an edit batch, measure what it did, and register the result as a new version."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_edit.core.edit_batch import EditBatch, check_against
from mlflow_edit.core.forgetting import checked_bound, disturbed, forgotten, hold_to
from mlflow_edit.core.results import Unsolved
from mlflow_edit.editors.catalog import DEFAULT_EDITOR, find_editor
from mlflow_edit.editors.editor import Editor
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.authorship import checked_author, checked_message
from mlflow_edit.operations.edit_source import read_source
from mlflow_edit.operations.learning import edits_for, learn
from mlflow_edit.operations.measuring import Trial, try_out
from mlflow_edit.operations.next_version import NextVersion, ParentVersion
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.publication import Publication, Published
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.version_view import (
    VersionDetail,
    detail,
    edit_results,
    other_heads,
)
from mlflow_edit.patches.composition import compose
from mlflow_edit.registry.names import HEAD, VersionRef, model_name
from mlflow_edit.registry.pinned_base import keep_encoder, load_pinned
from mlflow_edit.registry.registry import Registry
from mlflow_edit.registry.stored_batch import StoredBatch

OF_EDITS = ("reliability", "retention")  # what edits' own prompts are scored as


class Applied(VersionDetail):
    """A new version, and the edits of the batch that could not be learned.

    `unchanged`: the parent held these edits already, and it is what is returned.
    """

    unsolved: tuple[Unsolved, ...] = ()
    unchanged: bool = False
    seconds: float = 0.0


def apply(
    name: str,
    files: Sequence[str | Path],
    *,
    message: str = "",
    editor: str = DEFAULT_EDITOR,
    params: Mapping[str, Any] | None = None,
    parent: str = HEAD,
    from_git: str | None = None,
    author: str | None = None,
    suite: Suite | None = None,
    min_retention: float | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Applied:
    """Learn the edits in some files and register the result as a new version of `name`.

    Args:
        name: the registered model.
        files: `.jsonl`, `.json`, `.csv` or `.yaml` files of edits; together one batch.
        message: why.
        editor: the algorithm, by name.
        params: its settings.
        parent: the version to build on; the newest unless said.
        from_git: a revision: apply only the lines that it added to the files.
        author: who; None takes `MLEDIT_AUTHOR`, git's user or the account.
        suite: what to measure test retention and perplexity on; None takes the shipped one.
        min_retention: the share of all edits that the version must answer to be registered; None
            only warns where it is below nine tenths.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Returns:
        The new version; where the parent holds this very batch already, the parent.

    Raises:
        InvalidEdit, InvalidParams, UnknownEditor: nothing was learned.
        NotConverged: no edit could be learned; nothing was registered.
        GateError: retention is below `min_retention`; nothing was registered.
        RegistryError: the store failed; nothing was registered.
    """
    started = time.time()
    reporter = reporter or Silent()
    chosen = find_editor(editor, params or {})
    bound = checked_bound(min_retention)
    author, message = checked_author(author), checked_message(message)
    source = read_source([Path(file) for file in files], from_git=from_git)
    parsed = source.parse()
    warnings: list[str] = []

    def warn(text: str) -> None:
        warnings.append(text)
        reporter.warn(text)

    if parsed.ignored_fields:
        warn(f"fields that mean nothing here: {', '.join(parsed.ignored_fields)}")
    registry = open_registry(registry)
    before = ParentVersion.read(registry, VersionRef(model_name(name), parent))
    if before.holds(chosen, parsed.batch):
        return _nothing_to_do(registry, before)
    reporter.stage("loading the base model")
    base = load_pinned(registry, before.manifest.base)
    batch = edits_for(source, base)
    if before.holds(chosen, batch):
        return _nothing_to_do(registry, before)
    check_against(batch.edits, before.in_force())
    stored, unsolved = _learned(chosen, base, batch, before, reporter)
    if before.holds_learned(stored):
        return _nothing_to_do(registry, before, unsolved)
    after = NextVersion.of(before, stored)
    for item in after.superseded:
        warn(f"edit {item.edit} of batch {item.batch[:12]} is superseded by {item.by_edit}")
    trial = _looked_over(_try_out(base, after, suite, reporter), before, registry, reporter)
    hold_to(bound, trial.evaluation.scorecard)
    keep_encoder(registry, stored.patch, reporter.stage)
    publication = Publication(
        name=name,
        verb="apply",
        base=before.manifest.base,
        parents=(before.info,),
        content=after.content,
        trial=trial,
        author=author,
        message=message or _summary(stored.edits),
        started=started,
        stored=stored,
        known=before.manifest.batches,
        unsolved=unsolved,
        provenance=source.provenance,
    )
    published = publication.publish(registry, reporter)
    warnings += published.warnings
    for said in other_heads(registry, published.info):
        warn(said)
    seconds = round(time.time() - started, 3)
    return _applied(published, publication, warnings, seconds)


def _learned(
    editor: Editor[Any],
    base: BaseModel,
    batch: EditBatch,
    before: ParentVersion,
    reporter: Reporter,
) -> tuple[StoredBatch, tuple[Unsolved, ...]]:
    """Learn a batch on top of the deltas that it leaves in force.

    Where an edit fails that would have replaced some, they stay: the others are learned on them.
    """
    failed: tuple[Unsolved, ...] = ()
    while True:
        below, earlier = before.weights_below(batch), before.edits_below(batch)
        stored, unsolved = learn(editor, base, batch, reporter, below=below, earlier=earlier)
        failed += unsolved
        left = before.weights_below(stored.edits)
        if (left and left.batches) == (below and below.batches):
            return stored, failed
        batch = stored.edits


def _nothing_to_do(
    registry: Registry, parent: ParentVersion, unsolved: tuple[Unsolved, ...] = ()
) -> Applied:
    scorecard = registry.scorecard(parent.info, parent.manifest)
    said = f"version {parent.info.version} holds these edits already; nothing to do"
    shown = detail(parent.info, parent.manifest, scorecard, warnings=(said,))
    return Applied(**shown.model_dump(), unsolved=unsolved, unchanged=True)


def _try_out(base: BaseModel, after: NextVersion, suite: Suite | None, reporter: Reporter) -> Trial:
    new = frozenset(edit.digest for edit in after.stored.edits)
    with EditedModel(base, compose(after.parts())) as edited:
        return try_out(edited, after.in_force(), new, suite, reporter)


def _looked_over(
    trial: Trial, parent: ParentVersion, registry: Registry, reporter: Reporter
) -> Trial:
    """Add warnings where the version forgets edits, or moves what no edit is about."""
    known = registry.scorecard(parent.info, parent.manifest)
    card = trial.evaluation.scorecard
    asked = [row for row in trial.evaluation.results if row.metric in OF_EDITS]
    lost = [row.edit_id for row in asked if row.edit_id and not row.ok]
    found = [said for said in (forgotten(card, known, lost), disturbed(card)) if said]
    for said in found:
        reporter.warn(said)
    return replace(trial, warnings=(*trial.warnings, *found))


def _summary(edits: EditBatch) -> str:
    first = " ".join(next(iter(edits)).prompt.split())[:60]
    return first if len(edits) == 1 else f"{len(edits)} edits: {first} …"


def _applied(
    published: Published, made: Publication, warnings: Sequence[str], seconds: float
) -> Applied:
    info, manifest = published.info, published.manifest
    digest = made.stored.record.digest if made.stored else None
    batch = next((ref for ref in manifest.batches if ref.digest == digest), None)
    evaluation = made.trial.evaluation
    rows = tuple(row for row in evaluation.results if row.metric == "reliability")
    shown = detail(
        info,
        manifest,
        evaluation.scorecard,
        batch=batch,
        edits=edit_results(rows),
        warnings=tuple(warnings),
        review=published.review,
    )
    return Applied(**shown.model_dump(), unsolved=made.unsolved, seconds=seconds)
