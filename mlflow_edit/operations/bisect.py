"""Find which batches, or which smallest set of edits, make a version go wrong.

A version is a set, so that any part of what changed can be put in force at once: the search is
delta debugging over that set, not a walk along its history.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from mlflow_edit.core.conflicts import in_force
from mlflow_edit.core.content import Content, Pair
from mlflow_edit.core.delta_debugging import Outcome, smallest_bad
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.errors import BaseMismatchError, BisectFailed, InvalidInputError
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.bisect_tests import BisectTest, Candidate
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.revert import EditRef
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry
from mlflow_edit.registry.stored_batch import StoredBatch

Change = tuple[str, str]
"""What is tried as one: (batch, "") for all of a batch, (batch, edit id) for one edit."""


class Bisected(FrozenModel):
    """What is to blame.

    `state` is `skipped` where tests that could not be judged stand in the way of fewer; `added`
    are edits whose presence, and `removed` edits whose absence, makes the version bad.
    """

    name: str
    good: int | None
    bad: int
    state: Literal["found", "skipped"]
    batches: tuple[str, ...]
    added: tuple[EditRef, ...]
    removed: tuple[EditRef, ...]
    n_tests: int


def bisect(
    bad: str,
    test: BisectTest,
    *,
    good: str | None = None,
    subset: bool = False,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Bisected:
    """Find a smallest part of what changed that makes a version fail a test.

    Args:
        bad: `NAME@REF`, a version that fails.
        test: judges a candidate (see `bisect_tests`).
        good: `NAME@REF`, a version that passes; None is the base model.
        subset: find single edits; else whole batches.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        BisectFailed: the good version fails, the bad one passes, or the test was aborted.
        VersionNotFound: there is no such version.
    """
    registry, reporter = open_registry(registry), reporter or Silent()
    info = registry.resolve(parse_ref(bad))
    manifest = registry.manifest(info)
    start = registry.resolve(parse_ref(good)) if good is not None else None
    before = Content({}, frozenset())
    if start is not None:
        given = registry.manifest(start)
        before = Content.of(given)
        if given.base.digest != manifest.base.digest:
            raise BaseMismatchError(f"{good} and {bad} edit different base models")
    after = Content.of(manifest)
    refs = {**before.batches, **after.batches}
    batches = {digest: registry.batch(ref) for digest, ref in refs.items()}
    search = _Search(before, after, batches, subset=subset)
    if not search.changes:
        raise InvalidInputError("the two versions do the same", hint="Name another good version.")
    reporter.stage("loading the base model")
    base = load_pinned(registry, manifest.base)
    n_tests, skipped = 0, 0
    reporter.stage("testing")

    def outcome(some: Sequence[Change]) -> Outcome:
        nonlocal n_tests, skipped
        n_tests += 1
        pairs = search.pairs(some)
        with EditedModel(base, compose(search.parts(pairs))) as edited:
            found = test(Candidate(edited, manifest.base, search.content(pairs), batches))
        skipped += found == "skip"
        reporter.progress(n_tests, n_tests, f"{len(some)} of {len(search.changes)}: {found}")
        return found

    if outcome([]) != "good":
        raise BisectFailed("the good version is not good", hint="Name another: --good NAME@REF.")
    if outcome(search.changes) != "bad":
        raise BisectFailed(f"{bad} is not bad by this test")
    skipped = 0
    culprits = smallest_bad(search.changes, outcome)
    return _bisected(search, culprits, info.name, start.version if start else None, info.version,
                     n_tests=n_tests, skipped=skipped)  # fmt: skip


class _Search:
    """What changed between two contents, in parts that can be put in force alone."""

    def __init__(
        self, before: Content, after: Content, batches: dict[str, StoredBatch], *, subset: bool
    ) -> None:
        self.batches = batches
        edits = {digest: batch.edits for digest, batch in batches.items()}
        self.edits = {(d, e.id): e for d, found in edits.items() for e in found}
        self.before = {pair for pair, _ in in_force(before, edits)}
        now = {pair for pair, _ in in_force(after, edits)}
        causes: dict[Pair, set[Pair]] = defaultdict(set)
        for item in after.exclusions:
            causes[item.pair].add((item.by or item.batch, item.by_edit or item.edit))
        self.added: dict[Change, set[Pair]] = defaultdict(set)
        self.removed: dict[Change, set[Pair]] = defaultdict(set)
        for pair in now - self.before:
            self.added[self._change(pair, subset=subset)].add(pair)
        for pair in self.before - now:
            for cause in causes.get(pair, {pair}):  # each of them alone takes the edit out
                self.removed[self._change(cause, subset=subset)].add(pair)
        self.changes = sorted({*self.added, *self.removed})

    def _change(self, pair: Pair, *, subset: bool) -> Change:
        """Say what an edit is tried with: the edits of a delta are in force together."""
        whole = self.batches[pair[0]].patch.kind == "delta"
        return pair if subset and not whole else (pair[0], "")

    def pairs(self, some: Sequence[Change]) -> set[Pair]:
        """Return the edits in force when some of the changes are made."""
        found = set(self.before)
        for change in some:
            found |= self.added.get(change, set())
        for change in some:
            found -= self.removed.get(change, set())
        return found

    def parts(self, pairs: set[Pair]) -> list[Part]:
        """Return what is to be composed for some edits."""
        wanted: dict[str, set[str]] = defaultdict(set)
        for batch, edit in pairs:
            wanted[batch].add(edit)
        return [
            Part(d, self.batches[d].patch, frozenset(self._others(d, ids)))
            for d, ids in sorted(wanted.items())
        ]

    def content(self, pairs: set[Pair]) -> Content:
        """Return the content that has just these edits in force."""
        listed = sorted({batch for batch, _ in pairs})
        refs = [self.batches[digest].reference("bisect") for digest in listed]
        out = {pair for pair in self.edits if pair[0] in listed and pair not in pairs}
        return Content(
            {ref.digest: ref for ref in refs}, Content.closed(refs, []).exclusions
        ).without(edits=out)

    def _others(self, batch: str, ids: set[str]) -> set[str]:
        return {edit.id for edit in self.batches[batch].edits} - ids


def _bisected(
    search: _Search,
    culprits: Sequence[Change],
    name: str,
    good: int | None,
    bad: int,
    *,
    n_tests: int,
    skipped: int,
) -> Bisected:
    def refs(found: dict[Change, set[Pair]]) -> tuple[EditRef, ...]:
        pairs = sorted({pair for change in culprits for pair in found.get(change, ())})
        return tuple(
            EditRef(id=e.id, batch=b, prompt=e.prompt, target=e.target)
            for (b, _), e in ((pair, search.edits[pair]) for pair in pairs)
        )

    return Bisected(
        name=name,
        good=good,
        bad=bad,
        state="skipped" if skipped and len(culprits) > 1 else "found",
        batches=tuple(sorted({batch for batch, _ in culprits})),
        added=refs(search.added),
        removed=refs(search.removed),
        n_tests=n_tests,
    )
