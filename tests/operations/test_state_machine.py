"""Random applies, reverts, merges, promotions and gcs against plain sets."""

import itertools
import os
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from registry_fixtures import base_folder, draft_of, hand_made_batch, root_of

from mlflow_edit import MemoryRegistry, gc, merge, promote, revert, rollback, verify
from mlflow_edit.core.gate import Gate
from mlflow_edit.errors import GateError, NotFoundError
from mlflow_edit.operations.next_version import NextVersion, ParentVersion
from mlflow_edit.registry.names import VersionRef

STEPS = int(os.environ.get("MLEDIT_STEPS", "40"))
EXAMPLES = int(os.environ.get("MLEDIT_EXAMPLES", "6"))
ALIASES = st.sampled_from(["staging", "production"])
Pair = tuple[str, str]


class History(RuleBasedStateMachine):
    """The model: for each version the set of (batch, edit) in force; for each alias a stack."""

    @initialize()
    def start(self) -> None:
        self.registry = MemoryRegistry()
        self.root = root_of(self.registry, base_folder(), "m")
        self.force: dict[int, frozenset[Pair]] = {1: frozenset()}
        self.parents: dict[int, tuple[int, ...]] = {1: ()}
        self.stacks: dict[str, list[int]] = {}
        self.seeds = itertools.count()
        self.questions = itertools.count()
        self.digests: dict[frozenset[Pair], set[str]] = {}
        self._note(1)

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.force)))

    def _note(self, version: int) -> None:
        info = self.registry.versions("m")[version - 1]
        assert info.version == version

    @rule(data=st.data(), n=st.integers(1, 3))
    def apply(self, data: st.DataObject, n: int) -> None:
        parent = self.pick(data)
        questions = [(f"Q{next(self.questions)}?", "x") for _ in range(n)]
        batch = hand_made_batch(self.root[1].base.digest, questions, seed=next(self.seeds))
        before = ParentVersion.read(self.registry, VersionRef("m", str(parent)))
        after = NextVersion.of(before, batch)
        made = self.registry.publish(
            draft_of("m", before.manifest.base, parents=[(before.info, before.manifest)],
                     batch=batch, exclusions=list(after.content.exclusions))
        )  # fmt: skip
        digest = batch.record.digest
        new = {(digest, edit.id) for edit in batch.edits}
        self.force[made.version] = self.force[parent] | new
        self.parents[made.version] = (parent,)

    @rule(data=st.data())
    def revert_edits(self, data: st.DataObject) -> None:
        parent = self.pick(data)
        pairs = sorted(self.force[parent])
        if not pairs:
            return
        gone = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=3, unique=True))
        made = revert(f"m@{parent}", [f"{b[:16]}:{e}" for b, e in gone], measured=False,
                      author="Ada", registry=self.registry)  # fmt: skip
        self.force[made.version] = self.force[parent] - set(gone)
        self.parents[made.version] = (parent,)

    @rule(data=st.data())
    def revert_batch(self, data: st.DataObject) -> None:
        parent = self.pick(data)
        batches = sorted({b for b, _ in self.force[parent]})
        if not batches:
            return
        gone = data.draw(st.sampled_from(batches))
        made = revert(f"m@{parent}", [gone[:16]], measured=False, author="Ada",
                      registry=self.registry)  # fmt: skip
        self.force[made.version] = frozenset(p for p in self.force[parent] if p[0] != gone)
        self.parents[made.version] = (parent,)

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        a, b = self.pick(data), self.pick(data)
        found = merge(f"m@{a}", f"m@{b}", measured=False, author="Ada", registry=self.registry)
        if found.state != "merged":
            assert a in self._line(b) or b in self._line(a)
            return
        assert found.version is not None
        bases = [base.version for base in found.merge_base]
        expected = self._merged(bases, a, b)
        self.force[found.version.version] = expected
        self.parents[found.version.version] = (a, b)
        back = merge(f"m@{b}", f"m@{a}", dry_run=True, author="Ada", registry=self.registry)
        assert back.content_digest == found.content_digest

    def _merged(self, bases: list[int], a: int, b: int) -> frozenset[Pair]:
        """Merge whole batches as sets, and what is left out of them as sets."""

        def batches(v: int) -> set[str]:
            return {x for x, _ in self.force[v]}

        def out(v: int) -> set[Pair]:
            return {p for p in self.universe() if p[0] in batches(v)} - self.force[v]

        def three(base: Any, ours: Any, theirs: Any) -> Any:
            return (ours & theirs) | (ours - base) | (theirs - base)

        common = set.intersection(*(batches(v) for v in bases)) if bases else set()
        left = set.intersection(*(out(v) for v in bases)) if bases else set()
        kept = three(common, batches(a), batches(b))
        excluded = three(left, out(a), out(b))
        return frozenset(p for p in self.universe() if p[0] in kept and p not in excluded)

    def universe(self) -> set[Pair]:
        return {pair for pairs in self.force.values() for pair in pairs}

    def _line(self, version: int) -> set[int]:
        return {version}.union(*(self._line(p) for p in self.parents[version]))

    @rule(data=st.data(), alias=ALIASES)
    def promote(self, data: st.DataObject, alias: str) -> None:
        version = self.pick(data)
        promote(f"m@{version}", to=alias, author="Ada", registry=self.registry)
        stack = self.stacks.setdefault(alias, [])
        stack += [version] if stack[-1:] != [version] else []

    @rule(data=st.data(), alias=ALIASES)
    def be_refused(self, data: st.DataObject, alias: str) -> None:
        try:
            promote(f"m@{self.pick(data)}", to=alias, gate=Gate(min={"locality": 1.0}),
                    author="Ada", registry=self.registry)  # fmt: skip
            raise AssertionError("nothing was measured")
        except GateError:
            pass

    @rule(alias=ALIASES)
    def rollback(self, alias: str) -> None:
        stack = self.stacks.get(alias, [])
        try:
            made = rollback("m", alias, author="Ada", registry=self.registry)
        except NotFoundError:
            assert len(stack) < 2
            return
        del stack[-1]
        assert stack[-1] == made.version

    @rule()
    def gc(self) -> None:
        gc("m", dry_run=False, older_than=0, registry=self.registry)

    @invariant()
    def every_version_does_what_the_sets_say(self) -> None:
        for info in self.registry.versions("m"):
            manifest = self.registry.manifest(info)
            force = frozenset(
                (ref.digest, edit.id)
                for ref in manifest.batches
                for edit in self.registry.edits(ref)
                if edit.id not in manifest.excluded(ref.digest)
            )
            assert force == self.force[info.version]
            assert info.n_edits == len(force)
            seen = self.digests.setdefault(force, set())
            seen.add(info.content_digest)
            assert len(seen) == 1, "one behaviour, two content digests"

    @invariant()
    def aliases_are_where_they_were_put(self) -> None:
        for alias, stack in self.stacks.items():
            if stack:
                found = self.registry.resolve(VersionRef("m", alias))
                assert found.version == stack[-1]

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            assert verify("m", registry=self.registry).ok


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, derandomize=True
)
