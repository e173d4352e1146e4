"""Join two versions of one base model: set algebra, and conflicts that are data."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mlflow_edit.core.ledger import resolutions_of
from mlflow_edit.errors import InvalidInputError, NotFoundError
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.operations.authorship import checked_author, checked_message
from mlflow_edit.operations.conflict_search import find_conflicts, returned_by
from mlflow_edit.operations.merging_weights import combine
from mlflow_edit.operations.open_merges import (
    close_if_open,
    close_merge,
    note_open,
    opened_merge,
    sides_of,
)
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.pairing import Merged, Pairing, State, Tried
from mlflow_edit.operations.recomposition import Recomposition
from mlflow_edit.operations.regressions import accepted_regressions
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.resolving import Choices, resolve
from mlflow_edit.operations.settlement import Settlement
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
    pairing = _paired(registry, ours, theirs)
    ahead = pairing.fast_forward()
    if ahead is not None:
        state: State = "up-to-date" if ahead.digest == pairing.ours.digest else "fast-forward"
        return pairing.outcome(state, version=_shown(registry, ahead))
    reporter.stage("looking for conflicts")
    settled = _settled(registry, pairing, chosen)
    if dry_run:
        return settled.dry_run(way)
    if settled.left:
        note_open(registry, pairing.ours, pairing.theirs, author, message)
        raise settled.refusal()
    settled.check_answers(registry)
    union = settled.union()
    tried = tuple(_tried(registry, pairing, union, suite, reporter)) if try_all else ()
    if try_all and strategy is None:
        return settled.outcome("tried", tried=tried)
    made = _by(registry, pairing, union, way, settings)
    trial = made.try_out(registry, frozenset(), suite, reporter, measured=measured)
    scorecard = trial.evaluation.scorecard
    if measured:
        settled = settled.accepting(accepted_regressions(registry, pairing, scorecard, chosen))
    info, manifest, warnings, review = replace(made, resolutions=settled.recorded).publish(
        registry,
        trial,
        author=author,
        message=message or f"Merge @{pairing.theirs.version} into @{pairing.ours.version}",
        reporter=reporter,
    )
    close_if_open(registry, pairing.ours, pairing.theirs, author, info.digest)
    return settled.outcome(
        "merged",
        content_digest=manifest.content_digest,
        version=detail(info, manifest, scorecard, warnings=warnings, review=review),
        merging=made.merging,
        tried=tried,
    )


def _paired(registry: Registry, ours: str, theirs: str) -> Pairing:
    mine, other = registry.resolve(parse_ref(ours)), registry.resolve(parse_ref(theirs))
    if mine.name != other.name:
        raise InvalidInputError(
            f"{mine.name} and {other.name} are two models",
            hint=f"Bring single batches over: mledit cherry-pick {theirs} BATCH --onto {ours}",
        )
    return Pairing.read(registry, mine, other)


def _settled(registry: Registry, pairing: Pairing, chosen: Choices) -> Settlement:
    """Find the conflicts of a merge and settle those that something was chosen for.

    Raises:
        NotFoundError: something was chosen for a conflict that there is not.
    """
    conflicts = find_conflicts(registry, pairing.sides)
    strangers = [one for one in chosen.unknown(conflicts) if one not in pairing.regression_ids()]
    if strangers:
        raise NotFoundError(f"this merge has no conflict {strangers[0]}", hint="--dry-run lists.")
    new, recorded, left = resolve(pairing.sides.merged, conflicts, chosen)
    told = {conflict.id for conflict in conflicts}
    conflicts += [c for c in returned_by(registry, pairing.sides, new) if c.id not in told]
    return Settlement(pairing, new, tuple(conflicts), recorded, tuple(left))


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


def _shown(registry: Registry, info: VersionInfo) -> VersionDetail:
    manifest = registry.manifest(info)
    return detail(info, manifest, registry.scorecard(info, manifest))
