"""Which edits two versions answer by differently; only what changed is read."""

from mlflow_edit.core.conflicts import in_force
from mlflow_edit.core.content import Content, Pair
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.registry.registry import Registry


def changed_batches(old: Content, new: Content) -> frozenset[str]:
    """Return the batches that only one side lists, or of which the sides leave out other edits."""
    listed = set(old.batches) ^ set(new.batches)
    return frozenset(listed | {batch for batch, _ in old.excluded() ^ new.excluded()})


def read_edits(registry: Registry, *contents: Content) -> dict[str, EditBatch]:
    """Read the edits of the batches in which contents differ from the first."""
    wanted = {b for content in contents[1:] for b in changed_batches(contents[0], content)}
    refs = {b: ref for content in contents for b, ref in content.batches.items() if b in wanted}
    return {batch: registry.edits(refs[batch]) for batch in sorted(refs)}


def edit_changes(
    registry: Registry, old: Content, new: Content
) -> tuple[dict[Pair, Edit], dict[Pair, Edit]]:
    """Return the edits that only the old version answers by, and those that only the new does."""
    edits = read_edits(registry, old, new)
    before, after = dict(in_force(old, edits)), dict(in_force(new, edits))
    return (
        {pair: edit for pair, edit in before.items() if pair not in after},
        {pair: edit for pair, edit in after.items() if pair not in before},
    )
