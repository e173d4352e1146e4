"""Take batches or single edits out of a version, anywhere in its history, as a new version."""

from collections.abc import Sequence

from mlflow_edit.core.content import Content, Pair
from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.operations.authorship import checked_author, checked_message
from mlflow_edit.operations.edit_changes import edit_changes
from mlflow_edit.operations.edit_selection import find_targets
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.recomposition import Recomposition
from mlflow_edit.operations.relearning import relearn
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.version_view import VersionDetail, detail, other_heads
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry


class EditRef(FrozenModel):
    """An edit, and the batch that holds it."""

    id: str
    batch: str
    prompt: str
    target: str


class Reverted(VersionDetail):
    """A new version, the edits that it no longer answers by, and those that it answers by again."""

    taken: tuple[EditRef, ...] = ()
    returned: tuple[EditRef, ...] = ()


def revert(
    ref: str,
    targets: Sequence[str],
    *,
    cascade: bool = False,
    replay: bool = False,
    message: str = "",
    author: str | None = None,
    measured: bool = True,
    suite: Suite | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Reverted:
    """Register a version without some batches or edits, as if they had never been applied.

    All of them go at once, or none does. Edits that they had superseded come back, and are
    listed; the content digest is that of a history that never had what is taken out. A weight delta
    of which single edits are taken out is learned again without them, and the result says so.

    Args:
        ref: `NAME@REF`, the version to build on.
        targets: batches by the beginning of their digest, edits by id or `BATCH:ID`.
        cascade: take out what would come back as well, so that the base model answers.
        replay: learn later batches again where they were learned on top of weight deltas that are
            gone; else they stay as they are, and deltas are named as contextual.
        message: why.
        author: who; None takes `MLEDIT_AUTHOR`, git's user or the account.
        measured: measure the new version; else its scorecard is empty.
        suite: what to measure test retention and perplexity on; None takes the shipped one.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: nothing is named.
        VersionNotFound, EditNotFound: there is no such version, batch or edit.
        RegistryError: the store failed; nothing was registered.
    """
    author, message = checked_author(author), checked_message(message)
    registry, reporter = open_registry(registry), reporter or Silent()
    info = registry.resolve(parse_ref(ref))
    manifest = registry.manifest(info)
    old = Content.of(manifest)
    new, gone, come = _without(registry, old, targets, cascade)
    again = relearn(registry, manifest.base, old, new, replay=replay, reporter=reporter)
    made = Recomposition(
        "revert",
        (info,),
        manifest.base,
        old,
        again.content,
        learned=again.learned,
        asked=new,
    )
    trial = made.try_out(registry, frozenset(), suite, reporter, measured=measured)
    made_info, made_manifest, told, review = made.publish(
        registry,
        trial,
        author=author,
        message=message or f"Revert {', '.join(targets)}"[:200],
        reporter=reporter,
    )
    returned = tuple(_ref(batch, edit) for (batch, _), edit in come.items())
    warnings = list(again.notes)
    warnings += [f"edit {one.id} of batch {one.batch[:12]} is in force again" for one in returned]
    warnings += other_heads(registry, made_info)
    for said in warnings:
        reporter.warn(said)
    scorecard = trial.evaluation.scorecard
    told = (*told, *warnings)
    shown = detail(made_info, made_manifest, scorecard, warnings=told, review=review)
    return Reverted(
        **shown.model_dump(),
        taken=tuple(_ref(batch, edit) for (batch, _), edit in gone.items()),
        returned=returned,
    )


class RevertPreview(FrozenModel):
    """What a revert would take out and bring back, and what it would leave; nothing is written."""

    taken: tuple[EditRef, ...]
    returned: tuple[EditRef, ...]
    content_digest: str
    n_batches: int


def preview_revert(
    ref: str,
    targets: Sequence[str],
    *,
    cascade: bool = False,
    registry: Registry | None = None,
) -> RevertPreview:
    """Say what `revert` would do; no model is loaded.

    The content is that before a delta of which single edits go is learned again.

    Raises:
        InvalidInputError: nothing is named.
        VersionNotFound, EditNotFound: there is no such version, batch or edit.
    """
    registry = open_registry(registry)
    manifest = registry.manifest(registry.resolve(parse_ref(ref)))
    new, gone, come = _without(registry, Content.of(manifest), targets, cascade)
    return RevertPreview(
        taken=tuple(_ref(batch, edit) for (batch, _), edit in gone.items()),
        returned=tuple(_ref(batch, edit) for (batch, _), edit in come.items()),
        content_digest=new.digest(manifest.base.digest),
        n_batches=len(new.batches),
    )


def _without(
    registry: Registry, old: Content, targets: Sequence[str], cascade: bool
) -> tuple[Content, dict[Pair, Edit], dict[Pair, Edit]]:
    """Return the content that is left, the edits that it lacks, and those in force again."""
    if not targets:
        raise InvalidInputError("nothing to revert", hint="Name batches or edits: mledit show.")
    new = old.without(*find_targets(registry, old, targets))
    gone, come = edit_changes(registry, old, new)
    while cascade and come:
        new = new.without(edits=come)
        gone, come = edit_changes(registry, old, new)
    return new, gone, come


def _ref(batch: str, edit: Edit) -> EditRef:
    return EditRef(id=edit.id, batch=batch, prompt=edit.prompt, target=edit.target)
