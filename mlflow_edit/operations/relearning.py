"""Learn batches again: without some of their edits, or on weights that are no longer the same."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mlflow_edit.core.content import Content, Pair
from mlflow_edit.core.contextual import batches_in_force, deltas_in_force, learned_order
from mlflow_edit.core.manifest import BaseRef
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.errors import InvalidInputError, NotConverged
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.operations.learning import learn
from mlflow_edit.operations.merging_weights import EDITOR as MERGE
from mlflow_edit.operations.next_version import delta_edits, weights_of
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry
from mlflow_edit.registry.stored_batch import StoredBatch


@dataclass(frozen=True, slots=True)
class Relearned:
    """A content, the batches in it that are not stored yet, and what was done, in words."""

    content: Content
    learned: tuple[StoredBatch, ...] = ()
    notes: tuple[str, ...] = ()


def relearn(
    registry: Registry,
    base: BaseRef,
    old: Content,
    new: Content,
    *,
    replay: bool,
    reporter: Reporter,
) -> Relearned:
    """Learn again what cannot be had by recomposing.

    A single edit cannot be taken out of weights: a delta batch of which some edits are reverted is
    learned again without them, by the same editor with the same settings, on top of what is left of
    its context.

    Args:
        registry: where the batches are.
        base: the base model.
        old: the content before.
        new: the content that is asked for, with edits of delta batches left out.
        replay: learn later batches again as well, in the order of history, where deltas that they
            were learned on top of are gone or others; what those had replaced and that is in force
            again is put below them in its place.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: such a batch was not learned, but made by a merge.
        UnknownEditor: the editor of such a batch is not installed.
        NotConverged: an edit of such a batch could not be learned again.
    """
    partial = _partial(new)
    contexts = _contexts(old, new)
    todo = _todo(old, new, partial, contexts, replay=replay)
    for digest in todo:
        if new.batches[digest].editor == MERGE:
            raise InvalidInputError(
                f"batch {digest[:12]} was made by a merge of weights: it cannot be learned again",
                hint="Revert the whole batch; or revert the edit on its own side, and merge again.",
            )
    if not todo:
        return Relearned(new)
    reporter.stage("loading the base model")
    loaded = load_pinned(registry, base)
    batches = {digest: registry.batch(ref) for digest, ref in new.batches.items()}
    content, names, notes = new, dict[str, str](), []
    for digest in todo:
        stored = batches[digest]
        kept = [edit.id for edit in stored.edits if edit.id not in partial.get(digest, ())]
        context = {names.get(below, below) for below in contexts[digest]}
        below = {below: batches[below] for below in context & set(content.batches)}
        found = _again(loaded, stored, kept, below, content.excluded(), reporter)
        name = found.record.digest
        left = {edit.id for edit in found.edits}
        content = content.replaced(digest, found.reference("new"), left)
        batches[name], names[digest] = found, name
        out = sorted({edit.id for edit in stored.edits} - left)
        how = f"re-solved without {', '.join(out)}" if out else "learned again on the new weights"
        notes.append(f"batch {digest[:12]} was {how}: it is {name[:12]} now")
    learned = tuple(batches[name] for name in sorted(set(names.values()) - set(new.batches)))
    return Relearned(content, learned, tuple(notes))


def _partial(content: Content) -> dict[str, frozenset[str]]:
    """Return the edits that are to be taken out of deltas which stay in force."""
    found: dict[str, frozenset[str]] = {}
    acting = deltas_in_force(content.batches.values(), content.excluded())
    for item in content.exclusions:
        if item.reason == "reverted" and item.batch in acting:
            found[item.batch] = found.get(item.batch, frozenset()) | {item.edit}
    return found


def _contexts(old: Content, new: Content) -> dict[str, frozenset[str]]:
    """Return on top of what each batch in force belongs: of deltas that it names, and of others.

    What is in force again belongs below whatever was learned on top of what had replaced it.
    """
    before = deltas_in_force(old.batches.values(), old.excluded())
    acting = deltas_in_force(new.batches.values(), new.excluded())
    back = {(x.by, x.batch) for x in old.exclusions if x.batch in acting.keys() - before.keys()}
    return {
        digest: frozenset(ref.context)
        | {
            below
            for by, below in back
            if (by == digest or by in ref.context) and digest not in acting[below].context
        }
        for digest, ref in batches_in_force(new.batches.values(), new.excluded()).items()
    }


def _todo(
    old: Content,
    new: Content,
    partial: Mapping[str, frozenset[str]],
    contexts: Mapping[str, frozenset[str]],
    *,
    replay: bool,
) -> list[str]:
    """List the batches to learn, each behind those on top of which it was learned."""
    changed = set(deltas_in_force(old.batches.values(), old.excluded())) - set(contexts)
    changed |= set(partial)
    todo = []
    for digest in learned_order(contexts):
        if digest in partial or (replay and changed & set(new.batches[digest].context)):
            todo.append(digest)
            changed.add(digest)
    return todo


def _again(
    base: BaseModel,
    stored: StoredBatch,
    kept: Sequence[str],
    context: Mapping[str, StoredBatch],
    excluded: Collection[Pair],
    reporter: Reporter,
) -> StoredBatch:
    """Learn some edits of a batch, on top of what is in force of its context."""
    editor = find_editor(stored.record.editor, stored.record.params)
    below, earlier = weights_of(context, excluded), delta_edits(context, excluded)
    edits = stored.edits.subset(kept)
    found, unsolved = learn(editor, base, edits, reporter, below=below, earlier=earlier)
    if unsolved:
        lost = ", ".join(edit.edit_id for edit in unsolved)
        raise NotConverged(
            f"batch {stored.record.digest[:12]} has to be learned again, and {lost} of it could "
            "not be: nothing was registered",
            edits=[edit.edit_id for edit in unsolved],
            hint="Revert these edits as well, or the whole batch.",
        )
    return found
