"""Join two versions of one base model: set algebra, and conflicts that are data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mlflow_edit.core.conflicts import Conflict, conflict_id
from mlflow_edit.core.content import Content
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.ledger import resolutions_of
from mlflow_edit.core.lineage import Lineage
from mlflow_edit.core.manifest import BaseRef, Merging, Resolution
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import (
    BaseMismatchError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.operations.authorship import checked_author, checked_message
from mlflow_edit.operations.conflict_search import (
    Sides,
    contents,
    find_conflicts,
    lost_prompts,
    returned_by,
)
from mlflow_edit.operations.merging_weights import combine
from mlflow_edit.operations.open_merges import (
    close_if_open,
    close_merge,
    note_open,
    opened_merge,
    sides_of,
)
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.recomposition import Recomposition
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.resolving import Choices, resolve, unresolved
from mlflow_edit.operations.version_view import VersionDetail, detail
from mlflow_edit.patches.merging.catalog import (
    NAMES,
    StrategyName,
    settings_for,
    strategy_named,
)
from mlflow_edit.patches.merging.strategy import Settings
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo

MUST_NOT_FALL = ("retention", "locality", "test_retention")
State = Literal["merged", "fast-forward", "up-to-date", "dry-run", "conflicts", "aborted", "tried"]


class MergeBase(FrozenModel):
    """A best common ancestor."""

    version: int
    digest: str


class Tried(FrozenModel):
    """What one strategy of merging weights would give: nothing of it is registered."""

    strategy: str
    content_digest: str
    scorecard: Scorecard


class Merged(FrozenModel):
    """What a merge came to.

    `merged`: a new version; `fast-forward` and `up-to-date`: one side holds the other, and is
    `version`; `conflicts`, `dry-run`, `aborted`, `tried`: nothing was registered.
    """

    name: str
    state: State
    ours: int
    theirs: int
    merge_base: tuple[MergeBase, ...]
    conflicts: tuple[Conflict, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    unresolved: tuple[str, ...] = ()
    content_digest: str | None = None
    version: VersionDetail | None = None
    merging: Merging | None = None
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two versions to be joined, their merge bases, and their contents."""

    ours: VersionInfo
    theirs: VersionInfo
    bases: tuple[VersionInfo, ...]
    base: BaseRef
    sides: Sides

    @classmethod
    def read(cls, registry: Registry, ours: VersionInfo, theirs: VersionInfo) -> "Pairing":
        """Read both versions and find their merge bases.

        Raises:
            BaseMismatchError: they are edits to different base models.
        """
        mine, other = registry.manifest(ours), registry.manifest(theirs)
        if mine.base.digest != other.base.digest:
            raise BaseMismatchError(
                f"{ours.name}@{ours.version} edits the base model {mine.base.digest[:12]}, "
                f"{theirs.name}@{theirs.version} edits {other.base.digest[:12]}",
                hint="Only versions of one base model can be joined.",
            )
        versions = registry.versions(ours.name)
        by_digest = {info.digest: info for info in versions}
        lineage = Lineage({info.digest: info.parents for info in versions})
        line = lineage.ancestors(ours.digest) | lineage.ancestors(theirs.digest)
        holes = [parent for child, parent in lineage.unknown_parents() if child in line]
        if holes:
            raise IntegrityError(
                f"version {holes[0][:12]}, which these descend from, is gone: what was reverted "
                "since it cannot be told from what was never there",
                hint=f"Restore it in MLflow, or pick batches: mledit cherry-pick {theirs.name}@…",
            )
        found = lineage.merge_bases(ours.digest, theirs.digest)
        sides = Sides(contents(registry, ours.name, found), Content.of(mine), Content.of(other))
        return cls(ours, theirs, tuple(by_digest[d] for d in found), mine.base, sides)

    def regression_ids(self) -> dict[str, str]:
        """Return the ids that conflicts found by measuring have, with their metrics."""
        contents = [self.ours.content_digest, self.theirs.content_digest]
        return {conflict_id("metric-regression", m, *contents): m for m in MUST_NOT_FALL}

    def fast_forward(self) -> VersionInfo | None:
        """Return the side that descends from the other, if one does."""
        bases = {info.digest for info in self.bases}
        if self.ours.digest in bases:
            return self.theirs
        return self.ours if self.theirs.digest in bases else None

    def outcome(
        self,
        state: State,
        conflicts: Sequence[Conflict] = (),
        left: Sequence[Conflict] = (),
        **more: Any,
    ) -> Merged:
        """Say what came of it."""
        return Merged(
            name=self.ours.name,
            state=state,
            ours=self.ours.version,
            theirs=self.theirs.version,
            merge_base=tuple(MergeBase(version=b.version, digest=b.digest) for b in self.bases),
            conflicts=tuple(conflicts),
            unresolved=tuple(conflict.id for conflict in left),
            **more,
        )


def merge(
    ours: str,
    theirs: str,
    *,
    choices: Mapping[str, str] | None = None,
    resolutions: Mapping[str, str] | None = None,
    dry_run: bool = False,
    strategy: str | None = None,
    density: float | None = None,
    weight: float | None = None,
    seed: int | None = None,
    try_all: bool = False,
    message: str = "",
    author: str | None = None,
    measured: bool = True,
    suite: Suite | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Merged:
    r"""Join two versions: $(O \cap T) \cup (O \setminus B) \cup (T \setminus B)$ over batches.

    `merge(a, b)` and `merge(b, a)` have the same content digest. Conflicts that nothing chooses
    for leave the merge open in the ledger (see `conflicts`); nothing else is registered.

    Args:
        ours: `NAME@REF`.
        theirs: `NAME@REF` of the same model.
        choices: for each kind of conflict what to do, for example `{"contradiction": "ours"}`.
        resolutions: for single conflicts, by id.
        dry_run: find the conflicts only; nothing is written, nothing measured.
        strategy: how the weight deltas that each side adds become those of the merged version:
            `sum`, the default, puts both in force; `linear`, `ties`, `dare`, `magnitude` and
            `nullspace` make one new batch of them (see `patches.merging`).
        density: the share of elements that is kept, for `ties`, `dare` and `magnitude`.
        weight: what both sides are multiplied by, for all of these but `nullspace`.
        seed: of what is drawn at random, for `dare`.
        try_all: measure what every strategy gives; unless one is named, nothing is registered.
        message: why.
        author: who; None takes `MLEDIT_AUTHOR`, git's user or the account.
        measured: measure all edits again on the merged version; else its scorecard is empty.
        suite: what to measure test retention and perplexity on; None takes the shipped one.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        MergeConflict: conflicts are left; carries them.
        BaseMismatchError: the versions are edits to different base models.
        ConflictError: another merge of the model is open.
        VersionNotFound, RegistryError, IntegrityError: as every verb.
    """
    author, message = checked_author(author), checked_message(message)
    chosen, way = Choices(choices, resolutions), strategy_named(strategy or "sum")
    settings = settings_for(way, density=density, weight=weight, seed=seed)
    registry, reporter = open_registry(registry), reporter or Silent()
    mine, other = registry.resolve(parse_ref(ours)), registry.resolve(parse_ref(theirs))
    if mine.name != other.name:
        raise InvalidInputError(
            f"{mine.name} and {other.name} are two models",
            hint=f"Bring single batches over: mledit cherry-pick {theirs} BATCH --onto {ours}",
        )
    pairing = Pairing.read(registry, mine, other)
    ahead = pairing.fast_forward()
    if ahead is not None:
        state: State = "up-to-date" if ahead.digest == mine.digest else "fast-forward"
        return pairing.outcome(state, version=_shown(registry, ahead))
    reporter.stage("looking for conflicts")
    conflicts = find_conflicts(registry, pairing.sides)
    strangers = [one for one in chosen.unknown(conflicts) if one not in pairing.regression_ids()]
    if strangers:
        raise NotFoundError(f"this merge has no conflict {strangers[0]}", hint="--dry-run lists.")
    new, recorded, left = resolve(pairing.sides.merged, conflicts, chosen)
    told = {conflict.id for conflict in conflicts}
    conflicts += [c for c in returned_by(registry, pairing.sides, new) if c.id not in told]
    if dry_run:
        digest = new.digest(pairing.base.digest) if way == "sum" else None
        return pairing.outcome(
            "dry-run", conflicts, left, resolutions=recorded, content_digest=digest
        )
    if left:
        note_open(registry, mine, other, author, message)
        raise unresolved(
            left,
            outcome=pairing.outcome("conflicts", conflicts, left),
            hint=f"mledit conflicts list {mine.name}; mledit conflicts resolve {mine.name} ID "
            f"--ours|--theirs|--drop; mledit merge {mine.name} --continue (or --abort). "
            "Or at once: -X contradiction=ours|theirs|drop.",
        )
    dropped = any(one.choice == "drop" for one in recorded)
    lost = [] if dropped else lost_prompts(registry, pairing.sides, new)
    if lost:
        raise ConflictError(
            f"these resolutions leave nothing to answer {lost[0]!r}, which both sides answer",
            hint="Each excludes the other's edit in a circle; choose again.",
        )
    made = Recomposition("merge", (mine, other), pairing.base, pairing.sides.ours, new, recorded)
    tried = tuple(_tried(registry, pairing, made, suite, reporter)) if try_all else ()
    if try_all and strategy is None:
        return pairing.outcome("tried", conflicts, resolutions=recorded, tried=tried)
    made = _by(registry, pairing, made, way, settings)
    trial = made.try_out(registry, frozenset(), suite, reporter, measured=measured)
    scorecard = trial.evaluation.scorecard
    if measured:
        accepted = _accepted_regressions(registry, pairing, scorecard, chosen)
        recorded += tuple(Resolution(conflict=c.id, kind=c.kind, choice="accept") for c in accepted)
        made, conflicts = replace(made, resolutions=recorded), conflicts + accepted
    message = message or f"Merge @{other.version} into @{mine.version}"
    info, manifest, warnings = made.publish(
        registry, trial, author=author, message=message, reporter=reporter
    )
    close_if_open(registry, mine, other, author, info.digest)
    shown = detail(info, manifest, scorecard, warnings=warnings)
    return pairing.outcome(
        "merged",
        conflicts,
        resolutions=recorded,
        content_digest=manifest.content_digest,
        version=shown,
        merging=made.merging,
        tried=tried,
    )


def _by(
    registry: Registry,
    pairing: Pairing,
    made: Recomposition,
    strategy: StrategyName,
    settings: Settings,
) -> Recomposition:
    """Let a strategy make one batch of the deltas that both sides bring."""
    found = combine(registry, pairing.base, pairing.sides, made.new, strategy, settings)
    if found.merging is None:
        return made
    return replace(
        made, new=found.content, learned=found.learned, asked=made.new, merging=found.merging
    )


def _tried(
    registry: Registry,
    pairing: Pairing,
    union: Recomposition,
    suite: Suite | None,
    reporter: Reporter,
) -> Iterator[Tried]:
    """Measure what each strategy gives, with its default settings."""
    for name in NAMES:
        reporter.stage(f"trying {name}")
        settings = settings_for(name, density=None, weight=None, seed=None)
        made = _by(registry, pairing, union, name, settings)
        trial = made.try_out(registry, frozenset(), suite, reporter)
        digest = made.new.digest(pairing.base.digest)
        card = trial.evaluation.scorecard
        yield Tried(strategy=name, content_digest=digest, scorecard=card)


def continue_merge(
    name: str,
    *,
    choices: Mapping[str, str] | None = None,
    resolutions: Mapping[str, str] | None = None,
    message: str = "",
    registry: Registry | None = None,
    **options: Any,
) -> Merged:
    """Finish the merge of a model that stopped at conflicts, as they were resolved since.

    `options` are those of `merge`.

    Raises:
        NotFoundError: no merge is open.
        MergeConflict: conflicts are left.
    """
    registry = open_registry(registry)
    number, opened = opened_merge(registry, name)
    ours, theirs = sides_of(registry, name, opened)
    return merge(
        f"{name}@{ours.version}",
        f"{name}@{theirs.version}",
        choices=choices,
        resolutions={**resolutions_of(registry.ledger(name), number), **(resolutions or {})},
        message=message or opened.message,
        registry=registry,
        **options,
    )


def abort_merge(
    name: str, *, author: str | None = None, registry: Registry | None = None
) -> Merged:
    """Give up the merge of a model that stopped at conflicts.

    Raises:
        NotFoundError: no merge is open.
    """
    registry = open_registry(registry)
    number, opened = opened_merge(registry, name)
    numbers = {info.digest: info.version for info in registry.versions(name)}
    close_merge(registry, name, number, checked_author(author), None)
    return Merged(
        name=name,
        state="aborted",
        ours=numbers.get(opened.ours, 0),
        theirs=numbers.get(opened.theirs, 0),
        merge_base=(),
    )


def _accepted_regressions(
    registry: Registry, pairing: Pairing, now: Scorecard, chosen: Choices
) -> list[Conflict]:
    """Return what got worse by the merge, if all of it is accepted.

    Raises:
        MergeConflict: it is not.
    """
    worse = list(_regressions(registry, pairing, now))
    left = [conflict for conflict in worse if chosen.of(conflict) is None]
    if left:
        outcome = pairing.outcome("conflicts", worse, left)
        raise unresolved(left, outcome=outcome, hint="Accept it: -X metric-regression=accept")
    return worse


def _regressions(registry: Registry, pairing: Pairing, now: Scorecard) -> Iterator[Conflict]:
    """Find the metrics in which the merged version is worse than the worse of its parents."""
    sides = [registry.scorecard(v, registry.manifest(v)) for v in (pairing.ours, pairing.theirs)]
    for named, metric in pairing.regression_ids().items():
        measured = [getattr(card, metric) for card in sides if card.protocol == now.protocol]
        before = [number for number in measured if number is not None]
        value = getattr(now, metric)
        if value is None or not before or value >= min(before) - 1e-9:
            continue
        yield Conflict(
            id=named,
            kind="metric-regression",
            blocking=True,
            message=f"{metric} is {value:.3f}; before the merge it was {min(before):.3f}",
        )


def _shown(registry: Registry, info: VersionInfo) -> VersionDetail:
    manifest = registry.manifest(info)
    return detail(info, manifest, registry.scorecard(info, manifest))
