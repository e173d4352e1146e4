"""What a version does, as sets: which batches, and which of their edits are left out."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from mlflow_edit.core.edit import Edit, normal_text
from mlflow_edit.core.manifest import BatchRef, Exclusion, Manifest, content_digest

Pair = tuple[str, str]
"""(batch, edit)."""


@dataclass(frozen=True, slots=True)
class Content:
    """Batches by digest, and the exclusions between them.

    Law: an exclusion whose edit, or whose reason, is no longer there is no longer there either,
    and neither is a batch all of whose edits were reverted. So whatever is taken out leaves the
    content as if it had never been put in.
    """

    batches: Mapping[str, BatchRef]
    exclusions: frozenset[Exclusion]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Read the content of a version."""
        batches = {ref.digest: ref for ref in manifest.batches}
        return cls(batches, frozenset(manifest.exclusions))

    @classmethod
    def closed(cls, batches: Iterable[BatchRef], exclusions: Iterable[Exclusion]) -> Self:
        """Drop what has lost its object or its reason, until nothing more has."""
        kept = {ref.digest: ref for ref in batches}
        by_reason = sorted(exclusions, key=lambda item: item.reason, reverse=True)
        out = frozenset({item.key: item for item in by_reason}.values())
        while True:
            reverted = {item.pair for item in out if item.reason == "reverted"}
            out = frozenset(item for item in out if _stands(item, kept, reverted))
            empty = _emptied(kept, out)
            if not empty:
                return cls(kept, out)
            kept = {digest: ref for digest, ref in kept.items() if digest not in empty}

    def excluded(self) -> frozenset[Pair]:
        """Return the edits that are left out."""
        return frozenset(item.pair for item in self.exclusions)

    def digest(self, base: str) -> str:
        """Name the content, over a base model."""
        return content_digest(base, list(self.batches), self.excluded())

    def without(self, batches: Collection[str] = (), edits: Collection[Pair] = ()) -> "Content":
        """Take out whole batches and single edits, as if they had never been put in."""
        reverted = {Exclusion(batch=b, edit=e, reason="reverted") for b, e in edits}
        kept = [ref for digest, ref in self.batches.items() if digest not in batches]
        return Content.closed(kept, self.exclusions | reverted)

    def replaced(self, batch: str, by: BatchRef, edits: Collection[str]) -> "Content":
        """Put one batch in the place of another that holds some of its edits.

        Args:
            batch: the digest of the one that goes.
            by: the one that comes.
            edits: the ids of the edits that it holds.
        """
        kept = []
        for item in self.exclusions:
            mine, reason = item.batch == batch, item.by == batch
            if (mine and item.edit not in edits) or (reason and item.by_edit not in edits):
                continue
            moved = {
                **({"batch": by.digest} if mine else {}),
                **({"by": by.digest} if reason else {}),
            }
            kept.append(item.model_copy(update=moved))
        others = [ref for digest, ref in self.batches.items() if digest != batch]
        return Content.closed([*others, by], kept)

    def with_batch(
        self, ref: BatchRef, edits: Iterable[Edit], others: Mapping[str, Iterable[Edit]]
    ) -> "Content":
        """Put a batch in force, whole; where edits disagree on a prompt, its own count.

        Args:
            ref: the batch.
            edits: its edits.
            others: the edits of every other batch, whether in force or not: what the new batch
                replaces must stay replaced when whatever replaced it before is reverted.
        """
        kept = {item for item in self.exclusions if item.batch != ref.digest}
        superseded = superseded_by(ref.digest, edits, others)
        return Content.closed([*self.batches.values(), ref], {*kept, *superseded})


def superseded_by(
    batch: str, edits: Iterable[Edit], others: Mapping[str, Iterable[Edit]]
) -> Iterator[Exclusion]:
    """Exclude the edits of other batches that want something else for the same prompt."""
    rest = {digest: theirs for digest, theirs in others.items() if digest != batch}
    for (digest, edit_id), mine in replaced_by(edits, rest):
        yield Exclusion(batch=digest, edit=edit_id, reason="superseded", by=batch, by_edit=mine.id)


def replaced_by(
    edits: Iterable[Edit], others: Mapping[str, Iterable[Edit]]
) -> Iterator[tuple[Pair, Edit]]:
    """Find the edits of other batches for whose prompts `edits` want something else, and which."""
    wanted = {normal_text(edit.prompt): edit for edit in edits}
    for digest, theirs in others.items():
        for edit in theirs:
            mine = wanted.get(normal_text(edit.prompt))
            if mine is not None and mine.label_digest != edit.label_digest:
                yield (digest, edit.id), mine


def _stands(item: Exclusion, batches: Mapping[str, BatchRef], reverted: set[Pair]) -> bool:
    if item.batch not in batches:
        return False
    if item.by is None:
        return True
    return item.by in batches and (item.by, item.by_edit or "") not in reverted


def _emptied(batches: Mapping[str, BatchRef], exclusions: frozenset[Exclusion]) -> set[str]:
    """Find the batches all of whose edits were reverted."""
    counts: dict[str, int] = {}
    for batch, _ in {item.pair for item in exclusions if item.reason == "reverted"}:
        counts[batch] = counts.get(batch, 0) + 1
    return {b for b, n in counts.items() if b in batches and n >= batches[b].n_edits}
