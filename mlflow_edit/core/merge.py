"""Three-way merge: set algebra over batches and exclusions."""

from collections.abc import Sequence
from typing import Any

from mlflow_edit.core.content import Content


def merged_content(base: Sequence[Content], ours: Content, theirs: Content) -> Content:
    r"""Merge two contents: $(O \cap T) \cup (O \setminus B) \cup (T \setminus B)$.

    Commutative, and idempotent: `merged_content([a], a, a)` is `a`.

    Args:
        base: the contents of the merge bases. Of several (criss-cross) what all of them hold
            counts as the base; where there is none, everything was added.
        ours: one side.
        theirs: the other.
    """
    common = set.intersection(*(set(b.batches) for b in base)) if base else set()
    exclusions = frozenset.intersection(*(b.exclusions for b in base)) if base else frozenset()
    known = {**theirs.batches, **ours.batches}
    kept = _three_way(common, set(ours.batches), set(theirs.batches))
    out = _three_way(exclusions, ours.exclusions, theirs.exclusions)
    # of one batch stored by two runs the smaller run id stands for it, whoever merges
    refs = {
        digest: min(
            (c.batches[digest] for c in (ours, theirs) if digest in c.batches),
            key=lambda ref: ref.run_id,
        )
        for digest in known
    }
    return Content.closed([refs[digest] for digest in sorted(kept)], out)


def _three_way(base: Any, ours: Any, theirs: Any) -> Any:
    return (ours & theirs) | (ours - base) | (theirs - base)
