"""What two sides of a merge cannot both have: conflicts as data, with stable ids."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from mlflow_edit.core.content import Content, Pair
from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import Edit, FrozenModel, normal_text
from mlflow_edit.core.manifest import Exclusion

ConflictKind = Literal[
    "contradiction",
    "steal",
    "shadow",
    "tensor-overlap",
    "dangling",
    "modify-delete",
    "base-mismatch",
    "metric-regression",
]
Choice = Literal["ours", "theirs", "drop", "both", "accept"]

CHOICES: dict[str, tuple[Choice, ...]] = {
    "contradiction": ("ours", "theirs", "drop", "both"),
    "steal": ("both", "ours", "theirs", "drop"),
    "shadow": ("both", "ours", "theirs", "drop"),
    "dangling": ("accept", "drop"),
    "modify-delete": ("ours", "theirs"),
    "metric-regression": ("accept",),
    "tensor-overlap": ("accept",),
}
"""What may be chosen for each kind; `both` keeps both edits and parts their scopes half-way."""


class ConflictSide(FrozenModel):
    """One edit of a conflict: as one side has it, or as the merge base had it.

    Of a weight delta it is the whole batch, and `edit` is empty.
    """

    batch: str
    edit: str
    prompt: str
    target: str
    radius: float | None = None


class Conflict(FrozenModel):
    """Two changes that cannot both stand, or that change what the other does.

    `blocking` ones must be resolved; the others are settled by rule and are told. The id depends
    on what is in conflict only: not on which side is called ours. `overlap` is how far two weight
    deltas meet, in [0, 1].
    """

    id: str
    kind: ConflictKind
    blocking: bool
    message: str
    ours: ConflictSide | None = None
    theirs: ConflictSide | None = None
    base: ConflictSide | None = None
    distance: float | None = None
    overlap: float | None = None
    same_prompt: bool = False

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What may be chosen: edits of one prompt cannot both be kept."""
        found = CHOICES.get(self.kind, ())
        return tuple(c for c in found if c != "both" or not self.same_prompt)


def conflict_id(kind: str, *sides: object) -> str:
    """Name a conflict by its kind and what is in it, in whatever order."""
    return f"c-{json_digest([kind, sorted(json_digest(side) for side in sides)])[:10]}"


def side(batch: str, edit: Edit, radius: float | None = None) -> ConflictSide:
    """Make one side of a conflict."""
    return ConflictSide(
        batch=batch, edit=edit.id, prompt=edit.prompt, target=edit.target, radius=radius
    )


def in_force(content: Content, edits: Mapping[str, Iterable[Edit]]) -> Iterator[tuple[Pair, Edit]]:
    """Yield the edits of some batches that a content answers by, with their (batch, id)."""
    out = content.excluded()
    for batch in sorted(edits):
        if batch in content.batches:
            for edit in edits[batch]:
                if (batch, edit.id) not in out:
                    yield (batch, edit.id), edit


def contradictions(
    ours: Sequence[tuple[Pair, Edit]], theirs: Sequence[tuple[Pair, Edit]]
) -> Iterator[Conflict]:
    """Find edits of two sides that want different answers to one prompt or rephrase of it."""
    asked: dict[str, list[tuple[Pair, Edit]]] = {}
    for pair, edit in theirs:
        for text in {edit.prompt, *edit.rephrases}:
            asked.setdefault(_question(text), []).append((pair, edit))
    for (batch, _), mine in ours:
        seen: set[Pair] = set()
        own = _question(mine.prompt)
        texts = {own, *(_question(rephrase) for rephrase in mine.rephrases)}
        for text in sorted(texts, key=lambda text: (text != own, text)):
            for pair, other in asked.get(text, ()):
                both_rephrase = text not in (own, _question(other.prompt))
                if pair in seen or mine.label_digest == other.label_digest or both_rephrase:
                    continue
                seen.add(pair)
                same = normal_text(mine.prompt) == normal_text(other.prompt)
                yield Conflict(
                    id=conflict_id("contradiction", [batch, mine.id], list(pair)),
                    kind="contradiction",
                    blocking=True,
                    message=f"{text!r} has target {mine.target!r} here and {other.target!r} there",
                    ours=side(batch, mine),
                    theirs=side(pair[0], other),
                    same_prompt=same,
                )


def _question(text: str) -> str:
    """Fold a question further than `normal_text`: how it ends makes no other question of it."""
    folded = normal_text(text)
    return folded.rstrip(" ?!.") or folded


def modify_deletes(
    base: Sequence[Content], ours: Content, theirs: Content, edits: Mapping[Pair, Edit]
) -> Iterator[Conflict]:
    """Find edits that one side took out and the other replaced by a new one."""
    out_of_base = {pair for one in base for pair in one.excluded()}
    for deleter, modifier, swapped in ((ours, theirs, False), (theirs, ours, True)):
        out = modifier.excluded()
        for item in sorted(modifier.exclusions, key=lambda item: item.key):
            replaced = item.reason == "superseded" and item.by not in deleter.batches
            deleted = (
                item.batch not in deleter.batches
                or Exclusion(batch=item.batch, edit=item.edit, reason="reverted")
                in deleter.exclusions
            )
            had = base and all(item.batch in b.batches for b in base)
            if not (replaced and deleted and had) or item.pair in out_of_base:
                continue
            new = edits.get((item.by or "", item.by_edit or ""))
            old = edits.get(item.pair)
            if new is None or (item.by, new.id) in out:
                continue
            mine = side(item.by or "", new)
            yield Conflict(
                id=conflict_id("modify-delete", list(item.pair), [item.by, item.by_edit]),
                kind="modify-delete",
                blocking=True,
                message=f"{new.prompt!r}: one side took the edit out, the other replaced it "
                f"by {new.target!r}",
                ours=mine if swapped else None,
                theirs=None if swapped else mine,
                base=side(item.batch, old) if old else None,
            )


def danglings(
    ours: Content, theirs: Content, merged: Content, edits: Mapping[Pair, Edit]
) -> Iterator[Conflict]:
    """Find edits that neither side answers by, and that the merge would bring back.

    They were set aside in favour of something that the other side took out.
    """
    set_aside = {item.pair: item for item in (*ours.exclusions, *theirs.exclusions)}
    out = merged.excluded()
    sides = [(c.batches, c.excluded()) for c in (ours, theirs)]
    for pair, item in sorted(set_aside.items()):
        held = any(pair[0] in batches and pair not in left for batches, left in sides)
        if pair[0] not in merged.batches or pair in out or held or pair not in edits:
            continue
        edit = edits[pair]
        yield Conflict(
            id=conflict_id("dangling", list(pair)),
            kind="dangling",
            blocking=False,
            message=f"{edit.prompt!r} is answered {edit.target!r} again: what had replaced that "
            f"edit ({(item.by or '')[:12]}) is gone",
            base=side(pair[0], edit),
        )


def settled(conflict: Conflict, choice: Choice) -> list[Exclusion]:
    """Return what a choice leaves out (see `released` for what it puts back)."""
    if conflict.kind == "modify-delete":
        modifier = conflict.ours or conflict.theirs
        keeps = "ours" if conflict.ours else "theirs"
        return [] if choice == keeps or modifier is None else [_reverted(modifier)]
    if conflict.kind == "dangling":
        return [_reverted(conflict.base)] if choice == "drop" and conflict.base else []
    if choice in ("both", "accept") or conflict.ours is None or conflict.theirs is None:
        return []
    if choice == "drop":
        return [_reverted(conflict.ours), _reverted(conflict.theirs)]
    winner, loser = conflict.ours, conflict.theirs
    if choice == "theirs":
        winner, loser = loser, winner
    return [
        Exclusion(
            batch=loser.batch,
            edit=loser.edit,
            reason="contradiction",
            by=winner.batch,
            by_edit=winner.edit,
        )
    ]


def released(
    conflict: Conflict, choice: Choice, exclusions: Iterable[Exclusion]
) -> list[Exclusion]:
    """Return the exclusions that a choice does away with: of a winner, in favour of its loser.

    They are there where each side had replaced the other's edit before the merge.
    """
    ours, theirs = conflict.ours, conflict.theirs
    if ours is None or theirs is None or choice not in ("ours", "theirs", "both"):
        return []
    a, b = (ours.batch, ours.edit), (theirs.batch, theirs.edit)
    gone = {"ours": {(a, b)}, "theirs": {(b, a)}, "both": {(a, b), (b, a)}}[choice]
    return [x for x in exclusions if (x.pair, (x.by or "", x.by_edit or "")) in gone]


def _reverted(one: ConflictSide) -> Exclusion:
    return Exclusion(batch=one.batch, edit=one.edit, reason="reverted")
