"""Revert, merge, cherry-pick, diff, promote and verify, on hand-made batches: nothing is learned."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import draft_of, hand_made_batch, root_of

from mlflow_edit import (
    Gate,
    MemoryRegistry,
    abort_merge,
    approve,
    cherry_pick,
    continue_merge,
    decisions,
    diff,
    gc,
    list_conflicts,
    log,
    merge,
    promote,
    protect,
    reject,
    resolve_conflict,
    revert,
    rollback,
    show,
    verify,
)
from mlflow_edit.core.content import Content
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import (
    BaseMismatchError,
    ConflictError,
    EditNotFound,
    GateError,
    InvalidInputError,
    LostRaceError,
    MergeConflict,
    NotFoundError,
)
from mlflow_edit.operations.next_version import NextVersion, ParentVersion
from mlflow_edit.registry.names import VersionRef
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch


@dataclass
class Bench:
    """A model whose versions hold batches that were made by hand."""

    registry: Registry
    folder: Path
    name: str = "m"
    _root: Any = None
    seeds: list[int] = field(default_factory=list)

    def root(self) -> VersionInfo:
        if self._root is None:
            self._root = root_of(self.registry, self.folder, self.name)
        info: VersionInfo = self._root[0]
        return info

    def batch(self, edits: Sequence[tuple[str, str]]) -> StoredBatch:
        self.root()
        self.seeds.append(len(self.seeds))
        return hand_made_batch(self._root[1].base.digest, edits, seed=self.seeds[-1])

    def apply(
        self, parent: VersionInfo, batch: StoredBatch, card: Scorecard | None = None
    ) -> VersionInfo:
        before = ParentVersion.read(self.registry, VersionRef(self.name, str(parent.version)))
        after = NextVersion.of(before, batch)
        draft = draft_of(
            self.name, before.manifest.base, parents=[(before.info, before.manifest)], batch=batch,
            exclusions=sorted(after.content.exclusions, key=lambda e: e.key), scorecard=card,
            message=f"batch {batch.record.digest[:6]}",
        )  # fmt: skip
        return self.registry.publish(draft)

    def content(self, version: int) -> Content:
        return Content.of(self.registry.manifest(self.registry.versions(self.name)[version - 1]))

    def at(self, version: int | str) -> str:
        return f"{self.name}@{version}"

    @property
    def rest(self) -> dict[str, Any]:
        return {"registry": self.registry, "author": "Ada"}

    @property
    def quick(self) -> dict[str, Any]:
        return {**self.rest, "measured": False}


@pytest.fixture(params=["memory", "sqlite"])
def bench(request: pytest.FixtureRequest, chat_folder: Path) -> Bench:
    if request.param == "memory":
        return Bench(MemoryRegistry(), chat_folder)
    return Bench(request.getfixturevalue("sqlite_registry"), chat_folder)


@pytest.fixture
def memory(chat_folder: Path) -> Bench:
    return Bench(MemoryRegistry(), chat_folder)


def digest_of(batch: StoredBatch) -> str:
    return batch.record.digest


def test_revert_in_the_middle_is_a_history_that_never_had_it(bench: Bench) -> None:
    a, b, c = (bench.batch([(f"Where {i}?", "Oslo"), (f"Who {i}?", "Ada")]) for i in range(3))
    full = bench.apply(bench.apply(bench.apply(bench.root(), a), b), c)
    never = bench.apply(bench.apply(bench.root(), a), c)
    made = revert(bench.at(full.version), [digest_of(b)[:8]], message="wrong", **bench.quick)
    assert made.content_digest == never.content_digest != full.content_digest
    assert (made.parents, made.message, made.author) == ((full.digest,), "wrong", "Ada")
    assert {e.prompt for e in made.taken} == {"Where 1?", "Who 1?"}
    assert made.returned == ()
    assert {ref.digest for ref in made.batches} == {digest_of(a), digest_of(c)}


def test_revert_of_single_edits(bench: Bench) -> None:
    a = bench.batch([("Where?", "Oslo"), ("Who?", "Ada"), ("When?", "1900")])
    first = bench.apply(bench.root(), a)
    one = revert(bench.at(first.version), ["e0"], **bench.quick)
    assert (one.n_edits, one.n_batches) == (2, 1)
    two = revert(bench.at(one.version), [f"{digest_of(a)[:6]}:e1"], **bench.quick)
    both = revert(bench.at(first.version), ["e1", "e0"], **bench.quick)
    assert two.content_digest == both.content_digest
    none = revert(bench.at(two.version), ["e2"], **bench.quick)
    assert none.content_digest == bench.root().content_digest
    assert (none.n_edits, none.n_batches) == (0, 0)


def test_what_a_reverted_batch_had_replaced_comes_back(bench: Bench) -> None:
    a = bench.batch([("Who?", "Ada"), ("Where?", "Oslo")])
    b = bench.batch([("who?", "Bo")])
    over = bench.apply(bench.apply(bench.root(), a), b)
    assert bench.content(over.version).excluded() == {(digest_of(a), "e0")}
    back = revert(bench.at(over.version), [digest_of(b)], **bench.quick)
    assert [(e.prompt, e.target) for e in back.returned] == [("Who?", "Ada")]
    assert "in force again" in " ".join(back.warnings)
    away = revert(bench.at(over.version), [digest_of(b)], cascade=True, **bench.quick)
    assert away.returned == ()
    assert {e.target for e in away.taken} == {"Bo"}
    assert away.n_edits == 1


def test_an_id_that_looks_like_a_digest_is_not_taken_for_one(memory: Bench) -> None:
    a = memory.batch([("Who?", "Ada")])
    first = memory.apply(memory.root(), a)
    from mlflow_edit.core.edit import Edit
    from mlflow_edit.core.edit_batch import EditBatch

    edits = EditBatch((Edit(id=digest_of(a)[:4], prompt="Where?", target="Oslo"),))
    odd = memory.batch([("Where?", "Oslo")])
    from dataclasses import replace as put

    patch = put(odd.patch, edit_ids=(digest_of(a)[:4],), entry_digests=())  # type: ignore[type-var]
    stored = StoredBatch.of(
        base=odd.record.base, editor="grace", params={}, edits=edits, patch=patch
    )
    second = memory.apply(first, stored)
    with pytest.raises(EditNotFound, match="may be a batch or an edit"):
        revert(memory.at(second.version), [digest_of(a)[:4]], **memory.quick)
    assert revert(memory.at(second.version), [digest_of(a)[:8]], **memory.quick).n_edits == 1


def test_nothing_is_reverted_where_one_target_is_unknown(memory: Bench) -> None:
    a = memory.batch([("Who?", "Ada")])
    info = memory.apply(memory.root(), a)
    for targets in (["e0", "nope"], ["feed"], [digest_of(a)[:3]], [f"{digest_of(a)[:8]}:e9"]):
        with pytest.raises(EditNotFound):
            revert(memory.at(info.version), targets, **memory.quick)
    with pytest.raises(InvalidInputError):
        revert(memory.at(info.version), [], **memory.quick)
    assert len(memory.registry.versions("m")) == 2


def test_one_id_in_two_batches_must_be_told_apart(memory: Bench) -> None:
    a, b = memory.batch([("Who?", "Ada")]), memory.batch([("Where?", "Oslo")])
    info = memory.apply(memory.apply(memory.root(), a), b)
    with pytest.raises(EditNotFound, match="'e0' may be a batch or an edit") as raised:
        revert(memory.at(info.version), ["e0"], **memory.quick)
    assert f"{digest_of(a)[:12]}:e0" in str(raised.value.hint)


def test_merge_joins_a_fork_from_both_sides_alike(bench: Bench) -> None:
    a, b, c = (bench.batch([(f"Q{i}?", "x")]) for i in range(3))
    base = bench.apply(bench.root(), a)
    ours = bench.apply(base, b)
    without = revert(bench.at(base.version), [digest_of(a)], **bench.quick)
    theirs = bench.apply(bench.registry.versions("m")[without.version - 1], c)
    there = merge(bench.at(ours.version), bench.at(theirs.version), **bench.quick)
    back = merge(bench.at(theirs.version), bench.at(ours.version), **bench.quick)
    assert (there.state, there.conflicts) == ("merged", ())
    assert [b.version for b in there.merge_base] == [base.version]
    assert there.version is not None
    assert there.content_digest == back.content_digest == there.version.content_digest
    assert {r.digest for r in there.version.batches} == {digest_of(b), digest_of(c)}
    assert there.version.parents == (ours.digest, theirs.digest)
    again = merge(bench.at(there.version.version), bench.at(theirs.version), **bench.quick)
    assert (again.state, again.version and again.version.version) == (
        "up-to-date", there.version.version,
    )  # fmt: skip
    n = len(bench.registry.versions("m"))
    ahead = merge(bench.at(base.version), bench.at(ours.version), **bench.quick)
    assert (ahead.state, ahead.version and ahead.version.version) == ("fast-forward", ours.version)
    same = merge(bench.at(ours.version), bench.at(ours.version), **bench.quick)
    assert (same.state, same.content_digest) == ("up-to-date", None)
    assert len(bench.registry.versions("m")) == n
    assert log("m", registry=bench.registry).heads == (there.version.version, n)


def contradiction(bench: Bench) -> tuple[VersionInfo, VersionInfo, StoredBatch, StoredBatch]:
    a, b = bench.batch([("Who?", "Ada"), ("Where?", "Oslo")]), bench.batch([("who?", "Bo")])
    return bench.apply(bench.root(), a), bench.apply(bench.root(), b), a, b


def test_a_contradiction_stops_the_merge_until_it_is_resolved(bench: Bench) -> None:
    ours, theirs, a, b = contradiction(bench)
    refs = bench.at(ours.version), bench.at(theirs.version)
    looked = merge(*refs, dry_run=True, **bench.quick)
    assert (looked.state, len(looked.unresolved)) == ("dry-run", 1)
    with pytest.raises(NotFoundError, match="no merge"):
        list_conflicts("m", registry=bench.registry)
    with pytest.raises(MergeConflict) as raised:
        merge(*refs, message="join", **bench.quick)
    [conflict] = raised.value.conflicts
    assert raised.value.outcome.state == "conflicts"
    assert len(bench.registry.versions("m")) == 3
    listed = list_conflicts("m", registry=bench.registry)
    assert (listed.unresolved, listed.conflicts[0].conflict, listed.conflicts[0].choice) == (
        1, conflict, None,
    )  # fmt: skip
    with pytest.raises(MergeConflict):
        continue_merge("m", **bench.quick)
    named = listed.conflicts[0].conflict.id
    with pytest.raises(InvalidInputError, match="cannot be resolved by 'both'"):
        resolve_conflict("m", named, "both", **bench.rest)
    resolve_conflict("m", named, "ours", **bench.rest)
    resolve_conflict("m", named[:6], "theirs", note="Bo is right", **bench.rest)
    made = continue_merge("m", **bench.quick)
    assert made.version is not None
    assert made.version.message == "join"
    assert bench.content(made.version.version).excluded() == {(digest_of(a), "e0")}
    manifest = bench.registry.manifest(bench.registry.versions("m")[-1])
    assert [(r.conflict, r.choice) for r in manifest.resolutions] == [(named, "theirs")]
    with pytest.raises(NotFoundError):
        list_conflicts("m", registry=bench.registry)
    undone = revert(bench.at(made.version.version), [digest_of(b)], **bench.quick)
    assert [e.target for e in undone.returned] == ["Ada"]
    assert undone.content_digest == ours.content_digest


def test_sides_that_replaced_each_other_are_a_contradiction(memory: Bench) -> None:
    a, b = memory.batch([("Who?", "Ada")]), memory.batch([("Who?", "Bo")])
    ours = memory.apply(memory.apply(memory.root(), a), b)
    theirs = memory.apply(memory.apply(memory.root(), b), a)
    refs = memory.at(ours.version), memory.at(theirs.version)
    with pytest.raises(MergeConflict):
        merge(*refs, **memory.quick)
    abort_merge("m", **memory.rest)
    for choice, target in (("ours", "Bo"), ("theirs", "Ada")):
        made = merge(*refs, choices={"contradiction": choice}, **memory.quick)
        assert made.version is not None
        left = show(memory.at(made.version.version), registry=memory.registry).edits
        assert [edit.target for edit in left] == [target]


def test_one_edit_out_for_two_reasons_can_be_merged(memory: Bench) -> None:
    a, b = memory.batch([("Who?", "Ada")]), memory.batch([("Who?", "Bo"), ("R?", "z")])
    one = memory.apply(memory.root(), a)
    over = memory.apply(one, b)
    alone = memory.apply(memory.root(), b)
    settled = merge(
        memory.at(one.version), memory.at(alone.version), choices={"contradiction": "theirs"},
        **memory.quick,
    )  # fmt: skip
    assert settled.version is not None
    both = merge(memory.at(over.version), memory.at(settled.version.version), **memory.quick)
    assert both.version is not None
    assert both.version.content_digest == over.content_digest
    gone = revert(memory.at(settled.version.version), [f"{digest_of(b)[:12]}:e1"], **memory.quick)
    assert memory.apply(memory.registry.versions("m")[gone.version - 1], b).n_edits == 2


def test_resolutions_in_a_circle_are_refused(memory: Bench) -> None:
    a = [memory.batch([("Q?", "x")]) for _ in range(2)]
    b = [memory.batch([("Q?", "y")]) for _ in range(2)]
    ours = memory.apply(memory.apply(memory.root(), a[0]), a[1])
    theirs = memory.apply(memory.apply(memory.root(), b[0]), b[1])
    refs = memory.at(ours.version), memory.at(theirs.version)
    found = merge(*refs, dry_run=True, **memory.quick).conflicts
    assert len(found) == 4
    winner = {  # a0 > b0 > a1 > b1 > a0
        (0, 0): "ours", (1, 0): "theirs", (1, 1): "ours", (0, 1): "theirs",
    }  # fmt: skip
    names = {digest_of(batch): i for side in (a, b) for i, batch in enumerate(side)}
    choices = {
        c.id: winner[names[c.ours.batch], names[c.theirs.batch]]
        for c in found if c.ours and c.theirs
    }  # fmt: skip
    with pytest.raises(ConflictError, match="in a circle|leave nothing"):
        merge(*refs, resolutions=choices, **memory.quick)


def test_what_dropping_both_brings_back_is_told(memory: Bench) -> None:
    base = memory.apply(memory.root(), memory.batch([("Who?", "Ada")]))
    ours = memory.apply(base, memory.batch([("Who?", "Bo")]))
    theirs = memory.apply(base, memory.batch([("Who?", "Cy")]))
    made = merge(
        memory.at(ours.version), memory.at(theirs.version), choices={"contradiction": "drop"},
        **memory.quick,
    )  # fmt: skip
    assert made.version is not None
    assert made.version.n_edits == 1
    [told] = [c for c in made.conflicts if c.kind == "dangling"]
    assert told.base is not None
    assert told.base.target == "Ada"


def test_an_entry_that_two_batches_hold_is_in_conflict_twice(memory: Bench) -> None:
    from dataclasses import replace as put

    near = memory.batch([("Who is it?", "Bo")])
    twin = [memory.batch([("Who?", "Ada")]) for _ in range(2)]
    key = {"keys": near.patch.keys, "radii": near.patch.radii}  # type: ignore[attr-defined]
    shared = put(twin[0].patch, **key, entry_digests=())  # type: ignore[type-var]
    first = StoredBatch.of(base=near.record.base, editor="grace", params={},
                           edits=twin[0].edits, patch=shared)  # fmt: skip
    second = StoredBatch.of(base=near.record.base, editor="grace", params={"again": 1},
                            edits=twin[0].edits, patch=shared)  # fmt: skip
    ours = memory.apply(memory.apply(memory.root(), first), second)
    theirs = memory.apply(memory.root(), near)
    found = merge(memory.at(ours.version), memory.at(theirs.version), dry_run=True, **memory.quick)
    assert {c.ours.batch for c in found.conflicts if c.ours} == {
        digest_of(first),
        digest_of(second),
    }


def test_settling_at_once_closes_the_merge_that_was_open(memory: Bench) -> None:
    ours, theirs, *_ = contradiction(memory)
    refs = memory.at(ours.version), memory.at(theirs.version)
    with pytest.raises(MergeConflict):
        merge(*refs, **memory.quick)
    made = merge(*refs, choices={"contradiction": "ours"}, **memory.quick)
    assert made.state == "merged"
    with pytest.raises(NotFoundError):
        continue_merge("m", **memory.quick)


def test_a_merge_can_be_given_up(memory: Bench) -> None:
    ours, theirs, *_ = contradiction(memory)
    with pytest.raises(MergeConflict):
        merge(memory.at(ours.version), memory.at(theirs.version), **memory.quick)
    third = memory.apply(memory.root(), memory.batch([("WHO?", "Cy")]))
    with pytest.raises(ConflictError, match="another merge"):
        merge(memory.at(ours.version), memory.at(third.version), **memory.quick)
    assert abort_merge("m", **memory.rest).state == "aborted"
    with pytest.raises(NotFoundError):
        abort_merge("m", **memory.rest)
    kinds = [d.kind for d in decisions("m", registry=memory.registry).promotions]
    assert kinds == ["merge-opened", "merge-closed"]


@pytest.mark.parametrize(
    ("choice", "left"), [("ours", {"Bo"}), ("theirs", {"Ada"}), ("drop", {"Ada", "Bo"})]
)
def test_choices_for_a_kind_settle_at_once(memory: Bench, choice: str, left: set[str]) -> None:
    ours, theirs, a, b = contradiction(memory)
    made = merge(
        memory.at(ours.version), memory.at(theirs.version), choices={"contradiction": choice},
        **memory.quick,
    )  # fmt: skip
    assert made.version is not None
    targets = {(digest_of(a), "e0"): "Ada", (digest_of(b), "e0"): "Bo"}
    out = {targets[pair] for pair in memory.content(made.version.version).excluded()}
    assert out == left or (choice == "drop" and made.version.n_edits == 1)
    mirrored = {"ours": "theirs", "theirs": "ours", "drop": "drop"}[choice]
    back = merge(
        memory.at(theirs.version), memory.at(ours.version), choices={"contradiction": mirrored},
        **memory.quick,
    )  # fmt: skip
    assert back.content_digest == made.content_digest


def test_bad_choices_are_refused(memory: Bench) -> None:
    ours, theirs, *_ = contradiction(memory)
    refs = memory.at(ours.version), memory.at(theirs.version)
    for wrong in ({"choices": {"contradiction": "mine"}}, {"resolutions": {"c-1": "yes"}}):
        with pytest.raises(InvalidInputError):
            merge(*refs, **wrong, **memory.quick)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        merge(*refs, resolutions={"c-0123456789": "ours"}, **memory.quick)
    assert len(memory.registry.versions("m")) == 3


def test_cherry_pick_across_lines_and_models(bench: Bench) -> None:
    a, b = bench.batch([("Q1?", "x")]), bench.batch([("Q2?", "y")])
    ours = bench.apply(bench.root(), a)
    theirs = bench.apply(bench.apply(bench.root(), b), bench.batch([("Q3?", "z")]))
    made = cherry_pick(
        bench.at(theirs.version), [digest_of(b)[:10]], onto=bench.at(ours.version), **bench.quick
    )
    assert {r.digest for r in made.batches} == {digest_of(a), digest_of(b)}
    assert made.parents == (ours.digest,)
    with pytest.raises(InvalidInputError, match="already"):
        cherry_pick(
            bench.at(theirs.version), [digest_of(b)], onto=bench.at(made.version), **bench.quick
        )
    other = Bench(bench.registry, bench.folder, name="other")
    root = other.root()
    over = cherry_pick(
        bench.at(theirs.version), [digest_of(b)], onto=other.at(root.version), **bench.quick
    )
    assert (over.name, over.n_edits) == ("other", 1)
    assert verify("other", registry=bench.registry).ok
    with pytest.raises(InvalidInputError, match="two models"):
        merge(bench.at(ours.version), other.at(2), **bench.quick)


def test_picking_a_contradiction_asks(memory: Bench) -> None:
    ours, theirs, _, b = contradiction(memory)
    pick = {"onto": memory.at(ours.version), **memory.quick}
    with pytest.raises(MergeConflict):
        cherry_pick(memory.at(theirs.version), [digest_of(b)], **pick)
    made = cherry_pick(
        memory.at(theirs.version), [digest_of(b)], choices={"contradiction": "theirs"}, **pick
    )
    assert made.n_edits == 2


def test_versions_of_other_base_models_do_not_mix(memory: Bench, tmp_path: Path) -> None:
    from tiny_models import save_tiny, tiny_base

    other = Bench(memory.registry, save_tiny(tiny_base("gpt2"), tmp_path / "gpt2"), name="other")
    batch = other.batch([("Q?", "x")])
    there = other.apply(other.root(), batch)
    with pytest.raises(BaseMismatchError):
        cherry_pick(
            other.at(there.version), [digest_of(batch)],
            onto=memory.at(memory.root().version), **memory.quick,
        )  # fmt: skip


def test_diff_is_empty_of_itself_and_mirrors(bench: Bench) -> None:
    a, b = bench.batch([("Who?", "Ada"), ("Where?", "Oslo")]), bench.batch([("who?", "Bo")])
    old = bench.apply(bench.root(), a, Scorecard(locality=1.0))
    new = bench.apply(old, b, Scorecard(locality=0.5))
    refs = bench.at(old.version), bench.at(new.version)
    assert diff(refs[0], refs[0], registry=bench.registry).is_empty
    there, back = diff(*refs, registry=bench.registry), diff(*refs[::-1], registry=bench.registry)
    assert [r.digest for r in there.batches.added] == [digest_of(b)]
    assert [(c.old.target, c.new.target) for c in there.edits.changed] == [("Ada", "Bo")]
    assert (there.edits.added, there.edits.removed) == ((), ())
    assert [(m.metric, m.old, m.new) for m in there.scorecard] == [("locality", 1.0, 0.5)]
    assert (back.batches.added, back.batches.removed) == (
        there.batches.removed, there.batches.added,
    )  # fmt: skip
    assert [(c.new, c.old) for c in back.edits.changed] == [
        (c.old, c.new) for c in there.edits.changed
    ]


def test_ranges_and_graphs_of_the_log(memory: Bench) -> None:
    one = memory.apply(memory.root(), memory.batch([("Q1?", "x")]))
    two = memory.apply(one, memory.batch([("Q2?", "x")]))
    fork = memory.apply(memory.root(), memory.batch([("Q3?", "x")]))

    def versions(span: str) -> list[int]:
        return [v.version for v in log("m", span, registry=memory.registry).versions]

    assert versions(f"{one.version}..{two.version}") == [two.version]
    assert versions(f"{two.version}..{fork.version}") == [fork.version]
    assert versions(f"..{two.version}") == [two.version, one.version, 1]
    assert versions("1..") == [fork.version]
    for wrong in ("1", "1...2", "1.."[:1]):
        with pytest.raises(InvalidInputError):
            versions(wrong)
    with pytest.raises(NotFoundError):
        versions("1..99")
    assert show(memory.at(two.version), registry=memory.registry).added


def test_promotion_rollback_and_what_is_recorded(bench: Bench) -> None:
    good, worse = Scorecard(retention=1.0, locality=1.0), Scorecard(retention=0.9, locality=1.0)
    one = bench.apply(bench.root(), bench.batch([("Q1?", "x")]), good)
    two = bench.apply(one, bench.batch([("Q2?", "x")]), worse)
    refs = bench.at(one.version), bench.at(two.version)
    first = promote(refs[0], to="staging", if_current="none", note="go", **bench.rest)
    assert (first.version, first.previous, first.number) == (one.version, None, 1)
    assert bench.registry.resolve(VersionRef("m", "staging")).version == one.version
    with pytest.raises(GateError) as refused:
        promote(refs[1], to="staging", gate=Gate(not_worse={"retention": 0.05}), **bench.rest)
    assert "retention" in refused.value.message
    assert len(refused.value.failures) == 1
    assert bench.registry.resolve(VersionRef("m", "staging")).version == one.version
    with pytest.raises(LostRaceError):
        promote(refs[1], to="staging", if_current=str(two.version), **bench.rest)
    passed = promote(
        refs[1], to="staging", gate=Gate(not_worse={"retention": 0.2}), if_current="staging",
        **bench.rest,
    )  # fmt: skip
    assert (passed.previous, passed.gate and passed.gate.passed) == (one.version, True)
    back = rollback("m", "staging", note="broke", **bench.rest)
    assert (back.version, back.previous) == (one.version, two.version)
    with pytest.raises(NotFoundError):
        rollback("m", "staging", **bench.rest)
    told = decisions("m", registry=bench.registry).promotions
    assert [(d.number, d.kind, d.previous, d.version, d.note) for d in told] == [
        (1, "promotion", None, one.version, "go"),
        (2, "refusal", one.version, two.version, ""),
        (3, "promotion", one.version, two.version, ""),
        (4, "rollback", two.version, one.version, "broke"),
    ]
    assert verify("m", registry=bench.registry).ok


def test_a_gate_that_asks_for_approval(bench: Bench) -> None:
    ref = bench.at(bench.root().version)
    gate = Gate(approved=True)
    with pytest.raises(GateError):
        promote(ref, to="production", gate=gate, **bench.rest)
    approve(ref, note="looks right", **bench.rest)
    reject(ref, note="on second thoughts", **bench.rest)
    with pytest.raises(GateError):
        promote(ref, to="production", gate=gate, **bench.rest)
    approve(ref, **bench.rest)
    assert promote(ref, to="production", gate=gate, **bench.rest).version == 1


def test_a_gate_that_stands_on_the_model(bench: Bench) -> None:
    version = bench.apply(
        bench.root(), bench.batch([("Q1?", "x")]), Scorecard(retention=0.9, locality=0.5)
    )
    ref, rest, where = bench.at(version.version), bench.rest, {"registry": bench.registry}
    stands = Gate(min={"retention": 0.8})
    assert protect("m", "production", gate=stands, **where).gates == {"production": stands}
    passed = promote(ref, to="production", gate=Gate(min={"locality": 0.5}), **rest)
    assert passed.gate is not None
    assert [c.name for c in passed.gate.checks] == ["retention >= 0.8", "locality >= 0.5"]
    protect("m", "production", gate=Gate(min={"retention": 1.0}), **where)
    with pytest.raises(GateError, match="retention"):
        promote(ref, to="production", **rest)
    with pytest.raises(GateError, match="retention"):
        promote(ref, to="production", gate=Gate(min={"locality": 0.5}), **rest)
    promote(ref, to="staging", **rest)
    assert protect("m", "production", off=True, **where).gates == {}
    promote(ref, to="production", **rest)


@pytest.mark.parametrize(
    "given",
    [
        {"alias": "production"},
        {"gate": Gate()},
        {"alias": "production", "gate": Gate(), "off": True},
        {"alias": "head", "gate": Gate()},
        {"alias": "a" * 201, "gate": Gate()},
    ],
)
def test_a_gate_must_be_for_an_alias(bench: Bench, given: dict[str, Any]) -> None:
    bench.root()
    with pytest.raises(InvalidInputError):
        protect("m", **given, registry=bench.registry)
    assert protect("m", registry=bench.registry).gates == {}


def test_notes_that_cannot_be_kept_are_refused(memory: Bench) -> None:
    ref = memory.at(memory.root().version)
    for note in ("n" * 1001, "\u0958" * 900):
        with pytest.raises(InvalidInputError, match="the note has"):
            promote(ref, to="prod", note=note, **memory.rest)
        with pytest.raises(InvalidInputError, match="the note has"):
            approve(ref, note=note, **memory.rest)
    with pytest.raises(InvalidInputError, match="the author has"):
        approve(ref, author="\u0958" * 400, registry=memory.registry)


@pytest.mark.parametrize("alias", ["", "head", "latest", "v3", "3", "a b", "a/b", "x" * 256, "-a"])
def test_names_that_are_no_alias(memory: Bench, alias: str) -> None:
    with pytest.raises(InvalidInputError):
        promote(memory.at(memory.root().version), to=alias, **memory.rest)


def test_an_alias_that_somebody_moved_is_told_and_mended(bench: Bench) -> None:
    root = bench.root()
    two = bench.apply(root, bench.batch([("Q?", "x")]))
    promote(bench.at(root.version), to="prod", **bench.rest)
    bench.registry.set_alias("m", "prod", two.version)
    found = verify("m", registry=bench.registry)
    assert not found.ok
    [problem] = found.problems
    assert "prod" in problem.where
    assert problem.fixable
    back = rollback("m", "prod", **bench.rest)
    assert (back.version, back.previous) == (root.version, two.version)
    bench.registry.set_alias("m", "prod", None)
    assert verify("m", fix=True, registry=bench.registry).ok
    assert bench.registry.resolve(VersionRef("m", "prod")).version == root.version


def test_verify_finds_every_kind_of_damage(memory: Bench) -> None:
    assert isinstance(memory.registry, MemoryRegistry)
    a = memory.batch([("Q?", "x")])
    memory.apply(memory.root(), a)
    whole = verify(registry=memory.registry)
    assert (whole.ok, whole.checked.versions, whole.checked.batches) == (True, 2, 1)
    files = memory.registry.files[digest_of(a)]
    for name, data in list(files.items()):
        files[name] = data[:-1] + bytes([data[-1] ^ 1])
        found = verify("m", registry=memory.registry)
        assert not found.ok
        assert digest_of(a)[:12] in found.problems[0].where
        files[name] = data
    assert verify("m", registry=memory.registry).ok


def test_gc_lists_then_removes_what_no_version_names(memory: Bench) -> None:
    assert isinstance(memory.registry, MemoryRegistry)
    memory.apply(memory.root(), memory.batch([("Q?", "x")]))
    stray = memory.batch([("R?", "y")])
    memory.registry.files[digest_of(stray)] = stray.files()
    listed = gc("m", registry=memory.registry, older_than=0)
    assert [o.id for o in listed.orphans] == [digest_of(stray)]
    assert digest_of(stray) in memory.registry.files
    assert gc("m", registry=memory.registry).kept
    gc("m", registry=memory.registry, older_than=0, dry_run=False)
    assert digest_of(stray) not in memory.registry.files
    assert verify("m", registry=memory.registry).ok
