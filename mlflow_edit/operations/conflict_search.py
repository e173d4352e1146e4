"""Find the conflicts between two sides of a merge; only what differs between them is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from mlflow_edit.core.conflicts import (
    Conflict,
    ConflictSide,
    conflict_id,
    contradictions,
    danglings,
    in_force,
    modify_deletes,
    side,
)
from mlflow_edit.core.content import Content, Pair
from mlflow_edit.core.contextual import deltas_in_force
from mlflow_edit.core.edit import Edit, normal_text
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import BatchRef
from mlflow_edit.core.merge import merged_content
from mlflow_edit.core.text import counted
from mlflow_edit.operations.edit_changes import read_edits
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import AnyCodebook, Part, compose
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.delta_measures import overlaps_of
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.overlap import Overlap, encoder_overlaps, overlaps
from mlflow_edit.registry.pinned_base import pinned_encoder
from mlflow_edit.registry.registry import Registry

Found = list[tuple[Pair, Edit]]

SHOWN_TENSORS = 4
SAID = {
    "contradiction": "the question of one lies in the scope of the other",
    "steal": "their scopes overlap; inputs between them are answered by the nearer",
    "shadow": "the base model answers what the scope of one loses to the other",
}


@dataclass(frozen=True, slots=True)
class Sides:
    """Two versions, their merge bases, and what merging them gives before any resolution."""

    bases: tuple[Content, ...]
    ours: Content
    theirs: Content

    @property
    def merged(self) -> Content:
        """What set algebra makes of the two."""
        return merged_content(self.bases, self.ours, self.theirs)


def find_conflicts(registry: Registry, sides: Sides) -> list[Conflict]:
    """List the conflicts of a merge, those that must be resolved first.

    Contradictions are found by prompt and rephrases, and by the overlap of learned scopes.
    """
    merged = sides.merged
    edits = read_edits(registry, sides.ours, sides.theirs, *sides.bases)
    by_pair = {(batch, e.id): e for batch, found in edits.items() for e in found}
    ours, theirs = _new(sides, edits)
    found = [
        *contradictions(ours, theirs),
        *_overlapping(registry, sides, dict(ours), dict(theirs)),
        *modify_deletes(sides.bases, sides.ours, sides.theirs, by_pair),
        *danglings(sides.ours, sides.theirs, merged, by_pair),
        *_tensor_overlaps(registry, sides, ours, theirs),
    ]
    once = {conflict.id: conflict for conflict in reversed(found)}
    return sorted(once.values(), key=lambda c: (not c.blocking, c.kind, c.id))


def _tensor_overlaps(
    registry: Registry, sides: Sides, ours: Found, theirs: Found
) -> Iterator[Conflict]:
    """Find the weights that deltas of both sides change, none of which was learned on the other."""
    mine = _new_deltas(sides, sides.ours, sides.theirs)
    other = _new_deltas(sides, sides.theirs, sides.ours)
    patches = {ref.digest: registry.patch(ref) for ref in (*mine, *other)} if mine and other else {}
    for a, b in product(mine, other):
        first, second = patches.get(a.digest), patches.get(b.digest)
        if not isinstance(first, Delta) or not isinstance(second, Delta):
            continue
        met = overlaps_of(first, second)
        if not met or a.digest in b.context or b.digest in a.context:
            continue
        named = ", ".join(
            f"{one.tensor} ({one.measure:.2f} in common)" for one in met[:SHOWN_TENSORS]
        )
        more = f" and {len(met) - SHOWN_TENSORS} more" if len(met) > SHOWN_TENSORS else ""
        same = _prompts(ours, a.digest) & _prompts(theirs, b.digest)
        twice = f"; both hold {counted(len(same), 'edit')} alike, summed twice" if same else ""
        yield Conflict(
            id=conflict_id("tensor-overlap", a.digest, b.digest),
            kind="tensor-overlap",
            blocking=False,
            message=f"neither was learned with the other, and both change {named}{more}{twice}",
            ours=ConflictSide(batch=a.digest, edit="", prompt="", target=""),
            theirs=ConflictSide(batch=b.digest, edit="", prompt="", target=""),
            overlap=met[0].measure,
        )


def _prompts(edits: Found, batch: str) -> set[tuple[str, str]]:
    """Return what a batch's edits ask for: prompt and label."""
    return {(normal_text(edit.prompt), edit.label_digest) for (of, _), edit in edits if of == batch}


def _new_deltas(sides: Sides, content: Content, other: Content) -> list[BatchRef]:
    """Return the deltas that act on one side, and that neither the other nor the bases list."""
    old = set.intersection(*(set(base.batches) for base in sides.bases)) if sides.bases else set()
    acting = deltas_in_force(content.batches.values(), content.excluded())
    return [ref for d, ref in acting.items() if d not in old and d not in other.batches]


def _new(sides: Sides, edits: dict[str, EditBatch]) -> tuple[Found, Found]:
    """Return the edits that one side answers by, and neither the other nor the merge base does."""
    mine, other = dict(in_force(sides.ours, edits)), dict(in_force(sides.theirs, edits))
    bases = [{pair for pair, _ in in_force(base, edits)} for base in sides.bases]
    old = set.intersection(*bases) if bases else set()
    return (
        [(p, edit) for p, edit in mine.items() if p not in other and p not in old],
        [(p, edit) for p, edit in other.items() if p not in mine and p not in old],
    )


def lost_prompts(registry: Registry, sides: Sides, new: Content) -> list[str]:
    """Return the prompts that both sides answer by an edit, and the merged content by none."""
    edits = read_edits(registry, new, sides.ours, sides.theirs)

    def asked(content: Content) -> dict[str, str]:
        return {normal_text(edit.prompt): edit.prompt for _, edit in in_force(content, edits)}

    ours, theirs, left = asked(sides.ours), asked(sides.theirs), asked(new)
    return [prompt for text, prompt in ours.items() if text in theirs and text not in left]


def _overlapping(
    registry: Registry, sides: Sides, ours: dict[Pair, Edit], theirs: dict[Pair, Edit]
) -> list[Conflict]:
    if not ours or not theirs:
        return []
    mine, other = _Books(registry, sides.ours, ours), _Books(registry, sides.theirs, theirs)
    found: dict[str, Conflict] = {}
    for book, against in product(mine.books, other.books):
        for overlap in _meetings(registry, book, against):
            pairs = product(mine.pairs(book, overlap.ours), other.pairs(against, overlap.theirs))
            for a, b in pairs:
                named = conflict_id(overlap.kind, list(a), list(b))
                found[named] = Conflict(
                    id=named,
                    kind=overlap.kind,
                    blocking=overlap.kind == "contradiction",
                    message=SAID[overlap.kind],
                    ours=side(a[0], ours[a], float(book.radii[overlap.ours])),
                    theirs=side(b[0], theirs[b], float(against.radii[overlap.theirs])),
                    distance=overlap.distance,
                )
    return list(found.values())


def _meetings(registry: Registry, ours: AnyCodebook, theirs: AnyCodebook) -> Iterator[Overlap]:
    """Find where two codebooks meet; scopes of different kinds do not."""
    if isinstance(ours, Codebook) and isinstance(theirs, Codebook):
        yield from overlaps(ours, theirs)
        return
    if not isinstance(ours, EncoderCodebook) or not isinstance(theirs, EncoderCodebook):
        return
    if ours.encoder == theirs.encoder:
        yield from encoder_overlaps(ours, theirs, pinned_encoder(registry, ours.encoder))


class _Books:
    """The entries of some edits of one side, and of no others."""

    def __init__(self, registry: Registry, content: Content, pairs: dict[Pair, Edit]) -> None:
        wanted: dict[str, set[str]] = {}
        for batch, edit in pairs:
            wanted.setdefault(batch, set()).add(edit)
        parts = []
        self._holders: dict[str, list[str]] = {}
        for batch, ids in wanted.items():
            patch = registry.patch(content.batches[batch])
            part = Part(batch, patch, patch.edit_ids_used() - ids)
            for digest in compose([part]).batch_of:
                self._holders.setdefault(digest, []).append(batch)
            parts.append(part)
        self.books = compose(parts).patches

    def pairs(self, book: AnyCodebook, entry: int) -> list[Pair]:
        """Return the edits that an entry is of: batches may hold the same one."""
        digest = book.entry_digests[entry]
        return [(batch, book.edit_ids[entry]) for batch in self._holders[digest]]


def returned_by(registry: Registry, sides: Sides, new: Content) -> list[Conflict]:
    """List the edits that a merge brings back, after its conflicts were resolved."""
    edits = read_edits(registry, sides.ours, sides.theirs, *sides.bases, new)
    by_pair = {(batch, e.id): e for batch, found in edits.items() for e in found}
    return list(danglings(sides.ours, sides.theirs, new, by_pair))


def contents(registry: Registry, name: str, digests: Sequence[str]) -> tuple[Content, ...]:
    """Read the contents of some versions of a model, by digest."""
    infos = {info.digest: info for info in registry.versions(name)}
    return tuple(Content.of(registry.manifest(infos[digest])) for digest in digests)
