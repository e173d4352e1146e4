"""Which weight deltas of a version act on other weights than they were learned on."""

from collections.abc import Collection, Iterable, Mapping
from graphlib import TopologicalSorter

from mlflow_edit.core.content import Pair
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.manifest import BatchRef, Manifest


class Contextual(FrozenModel):
    """A delta batch that acts on other weights than it was learned on, and why.

    `missing` are deltas that it was learned on top of and that are gone; `beside` are deltas in
    force that were learned without it, and it without them.
    """

    batch: str
    missing: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """Say it in words."""
        return f"batch {self.batch[:12]} is contextual: {self.why}"

    @property
    def why(self) -> str:
        """Say how it was learned."""
        parts = []
        if self.missing:
            parts.append(f"learned on top of {_names(self.missing)}, which is not in force")
        if self.beside:
            parts.append(f"learned without {_names(self.beside)}, which is in force beside it")
        return "; ".join(parts)


def batches_in_force(
    batches: Iterable[BatchRef], excluded: Collection[Pair]
) -> dict[str, BatchRef]:
    """Return the batches that act, by digest: all but those of which every edit is left out."""
    out: dict[str, int] = {}
    for batch, _ in set(excluded):
        out[batch] = out.get(batch, 0) + 1
    return {
        ref.digest: ref
        for ref in sorted(batches, key=lambda ref: ref.digest)
        if out.get(ref.digest, 0) < max(ref.n_edits, 1)
    }


def deltas_in_force(batches: Iterable[BatchRef], excluded: Collection[Pair]) -> dict[str, BatchRef]:
    """Return the delta batches that act."""
    acting = batches_in_force(batches, excluded)
    return {digest: ref for digest, ref in acting.items() if ref.kind == "delta"}


def contextual(
    batches: Iterable[BatchRef], excluded: Collection[Pair] = ()
) -> tuple[Contextual, ...]:
    """Find the delta batches that act on other weights than they were learned on.

    A batch that was learned later, on top of this one, is what history had: it does not count.
    """
    acting = deltas_in_force(batches, excluded)
    found = []
    for digest, ref in acting.items():
        beside = [
            other
            for other, one in acting.items()
            if other != digest and other not in ref.context and digest not in one.context
        ]
        missing = [one for one in ref.context if one not in acting]
        if missing or beside:
            found.append(Contextual(batch=digest, missing=tuple(missing), beside=tuple(beside)))
    return tuple(found)


def contextual_of(manifest: Manifest) -> tuple[Contextual, ...]:
    """Find the delta batches of a version that are contextual."""
    return contextual(manifest.batches, {item.pair for item in manifest.exclusions})


def deltas_of(manifest: Manifest) -> dict[str, BatchRef]:
    """Return the delta batches of a version that act."""
    return deltas_in_force(manifest.batches, {item.pair for item in manifest.exclusions})


def learned_order(contexts: Mapping[str, Iterable[str]]) -> list[str]:
    """Order delta batches so that each is behind those of its context; by digest where it may be.

    Args:
        contexts: of each batch the deltas on top of which it belongs; others are left out.
    """
    order = TopologicalSorter({d: set(context) & set(contexts) for d, context in contexts.items()})
    order.prepare()
    found: list[str] = []
    while order.is_active():
        ready = sorted(order.get_ready())
        found += ready
        order.done(*ready)
    return found


def _names(digests: tuple[str, ...]) -> str:
    return ", ".join(digest[:12] for digest in digests)
