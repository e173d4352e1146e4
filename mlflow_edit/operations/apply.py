"""Learn an edit batch, measure what it did, and register the result as a new version."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_edit.core.edit import Edit, normal_text
from mlflow_edit.core.edit_batch import EditBatch, Problem, invalid_edits
from mlflow_edit.core.manifest import Exclusion, Manifest
from mlflow_edit.core.results import Unsolved
from mlflow_edit.editors.catalog import DEFAULT_EDITOR, find_editor
from mlflow_edit.editors.editor import Editor, Learning
from mlflow_edit.errors import NotConverged, UnsupportedModel
from mlflow_edit.evaluation.evaluate import Evaluation, collect_probes, evaluate
from mlflow_edit.evaluation.suite import Suite, default_suite
from mlflow_edit.models.base_model import BaseModel, load_base
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.edit_source import EditSource, read_source
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.publication import Publication
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.version_view import VersionDetail, detail, edit_results
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.provenance import default_author
from mlflow_edit.registry.names import HEAD, VersionRef, model_name
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch


class Applied(VersionDetail):
    """A new version, and the edits of the batch that could not be learned."""

    unsolved: tuple[Unsolved, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Parent:
    info: VersionInfo
    manifest: Manifest
    batches: dict[str, StoredBatch]

    def in_force(self, superseded: Sequence[Exclusion] = ()) -> list[tuple[str, Edit]]:
        out = {(item.batch, item.edit) for item in (*self.manifest.exclusions, *superseded)}
        return [
            (digest, edit)
            for digest, stored in self.batches.items()
            for edit in stored.edits
            if (digest, edit.id) not in out
        ]


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
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Returns:
        The new version; where the parent holds this very batch already, the parent.

    Raises:
        InvalidEdit, InvalidParams, UnknownEditor: nothing was learned.
        NotConverged: no edit could be learned; nothing was registered.
        RegistryError: the store failed; nothing was registered.
    """
    started = time.time()
    reporter = reporter or Silent()
    chosen = find_editor(editor, params or {})
    source = read_source([Path(file) for file in files], from_git=from_git)
    parsed = source.parse()
    if parsed.ignored_fields:
        reporter.warn(f"fields that mean nothing here: {', '.join(parsed.ignored_fields)}")
    registry = open_registry(registry)
    parent_version = _parent(registry, VersionRef(model_name(name), parent))
    if _holds(parent_version, chosen, parsed.batch):
        return _nothing_to_do(registry, parent_version)
    reporter.stage("loading the base model")
    ref = parent_version.manifest.base
    base = load_base(registry.base_folder(ref), digest=ref.digest)
    batch = _for_task(source, base)
    if _holds(parent_version, chosen, batch):
        return _nothing_to_do(registry, parent_version)
    stored, unsolved = _learn(chosen, base, batch, reporter)
    superseded = _superseded(parent_version, stored)
    for item in superseded:
        reporter.warn(f"edit {item.edit} of batch {item.batch[:12]} is superseded: new target")
    edits = parent_version.in_force(superseded) + [(stored.record.digest, e) for e in stored.edits]
    evaluation = _measure(base, parent_version, stored, superseded, edits, suite, reporter)
    reporter.stage("registering the version")
    info, manifest = Publication(
        name=name,
        verb="apply",
        base=ref,
        parents=(parent_version.info,),
        batches=parent_version.manifest.batches,
        exclusions=(*parent_version.manifest.exclusions, *superseded),
        edits=tuple(edits),
        evaluation=evaluation,
        author=author or default_author(),
        message=message or _summary(stored.edits),
        started=started,
        stored=stored,
        unsolved=unsolved,
        provenance=source.provenance,
    ).publish(registry)
    return _applied(info, manifest, stored, evaluation, unsolved, time.time() - started)


def _parent(registry: Registry, ref: VersionRef) -> _Parent:
    info = registry.resolve(ref)
    manifest = registry.manifest(info)
    return _Parent(info, manifest, {b.digest: registry.batch(b) for b in manifest.batches})


def _holds(parent: _Parent, editor: Editor[Any], batch: EditBatch) -> bool:
    """Tell whether the parent holds this very batch, by this editor with these settings."""
    return any(
        stored.record.edits == batch.digest
        and stored.record.editor == editor.name
        and stored.record.params == editor.params.model_dump(mode="json")
        and not parent.manifest.excluded(digest)
        for digest, stored in parent.batches.items()
    )


def _nothing_to_do(registry: Registry, parent: _Parent) -> Applied:
    scorecard = registry.scorecard(parent.info, parent.manifest)
    said = f"version {parent.info.version} holds these edits already; nothing to do"
    shown = detail(parent.info, parent.manifest, scorecard, warnings=(said,))
    return Applied(**shown.model_dump())


def _for_task(source: EditSource, base: BaseModel) -> EditBatch:
    """Give edits that name no kind the one that the base model's task asks for.

    Raises:
        InvalidEdit: an edit is of a kind that this model cannot learn.
    """
    label = base.task == "classifier"
    batch = source.parse(kind="label" if label else "fact").batch
    model = type(base.model).__name__
    problems = [
        Problem(f"edit {edit.id}", "kind", f"{edit.kind!r} edits cannot be made to a {model}")
        for edit in batch
        if (edit.kind == "label") != label
    ]
    if problems:
        raise invalid_edits(problems, n_edits=len(batch))
    return batch


def _learn(
    editor: Editor[Any], base: BaseModel, batch: EditBatch, reporter: Reporter
) -> tuple[StoredBatch, tuple[Unsolved, ...]]:
    if base.task not in editor.tasks:
        raise UnsupportedModel(f"the editor {editor.name!r} does not edit {base.task} models")
    reporter.stage(f"learning {len(batch)} edits with {editor.name}")

    def progress(solved: int, total: int, loss: float) -> None:
        reporter.progress(solved, total, f"loss {loss:.3f}")

    learning = editor.learn(base, batch, progress)
    solved = [outcome.edit_id for outcome in learning.outcomes if outcome.solved]
    unsolved = _unsolved(batch, learning)
    for edit in unsolved:
        reporter.warn(f"not learned: {edit.edit_id} ({edit.prompt!r}), loss {edit.loss:.2f}")
    if not solved:
        raise NotConverged(
            f"none of the {len(batch)} edits could be learned; nothing was registered",
            edits=[edit.edit_id for edit in unsolved],
            hint="Try more steps (--param max_steps=300) or another layer (--param layer=12).",
        )
    stored = StoredBatch.of(
        base=base.digest,
        editor=editor.name,
        params=editor.params.model_dump(mode="json"),
        edits=batch.subset(solved),
        patch=learning.patch,
    )
    return stored, unsolved


def _unsolved(batch: EditBatch, learning: Learning) -> tuple[Unsolved, ...]:
    by_id = {edit.id: edit for edit in batch}
    return tuple(
        Unsolved(
            edit_id=outcome.edit_id,
            prompt=by_id[outcome.edit_id].prompt,
            target=by_id[outcome.edit_id].target,
            loss=outcome.loss,
            steps=outcome.steps,
        )
        for outcome in learning.outcomes
        if not outcome.solved
    )


def _superseded(parent: _Parent, stored: StoredBatch) -> tuple[Exclusion, ...]:
    """Find the parent's edits whose prompt now has a new target: the newer one counts."""
    wanted = {normal_text(edit.prompt): edit.label_digest for edit in stored.edits}
    return tuple(
        Exclusion(batch=digest, edit=edit.id, reason="superseded")
        for digest, edit in parent.in_force()
        if wanted.get(normal_text(edit.prompt), edit.label_digest) != edit.label_digest
    )


def _measure(
    base: BaseModel,
    parent: _Parent,
    stored: StoredBatch,
    superseded: Sequence[Exclusion],
    edits: Sequence[tuple[str, Edit]],
    suite: Suite | None,
    reporter: Reporter,
) -> Evaluation:
    out: dict[str, set[str]] = {}
    for item in (*parent.manifest.exclusions, *superseded):
        out.setdefault(item.batch, set()).add(item.edit)
    batches = {**parent.batches, stored.record.digest: stored}
    parts = [Part(d, b.patch, frozenset(out.get(d, ()))) for d, b in batches.items()]
    new = frozenset(edit.digest for edit in stored.edits)
    with EditedModel(base, compose(parts)) as edited:
        return measure(edited, [edit for _, edit in edits], new, suite, reporter)


def measure(
    edited: EditedModel,
    edits: Sequence[Edit],
    new: frozenset[str],
    suite: Suite | None,
    reporter: Reporter,
) -> Evaluation:
    """Evaluate a version, reporting how many probes are answered."""
    suite = suite or default_suite()
    probes = collect_probes(edited, edits, new, suite)
    reporter.stage(f"measuring with {len(probes)} probes")
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        reporter.progress(done, len(probes))

    return evaluate(edited, edits, new=new, suite=suite, probes=probes, advance=advance)


def _summary(edits: EditBatch) -> str:
    first = " ".join(next(iter(edits)).prompt.split())[:60]
    return first if len(edits) == 1 else f"{len(edits)} edits: {first} …"


def _applied(
    info: VersionInfo,
    manifest: Manifest,
    stored: StoredBatch,
    evaluation: Evaluation,
    unsolved: tuple[Unsolved, ...],
    seconds: float,
) -> Applied:
    mine = next(ref for ref in manifest.batches if ref.digest == stored.record.digest)
    rows = tuple(row for row in evaluation.results if row.metric == "reliability")
    shown = detail(info, manifest, evaluation.scorecard, batch=mine, edits=edit_results(rows))
    return Applied(**shown.model_dump(), unsolved=unsolved, seconds=round(seconds, 3))
