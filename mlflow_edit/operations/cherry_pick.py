"""Bring single batches from another line, or another model of the same base."""

from collections.abc import Collection, Mapping, Sequence

from mlflow_edit.core.conflicts import Conflict
from mlflow_edit.core.content import Content
from mlflow_edit.core.manifest import Resolution
from mlflow_edit.errors import BaseMismatchError, InvalidInputError
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.operations.authorship import checked_author, checked_message
from mlflow_edit.operations.conflict_search import Sides, find_conflicts
from mlflow_edit.operations.edit_selection import find_batches
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.recomposition import Recomposition
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.resolving import Choices, resolve, unresolved
from mlflow_edit.operations.version_view import VersionDetail, detail, other_heads
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo


class Picked(VersionDetail):
    """A new version, and what the batches met there."""

    picked: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    resolutions: tuple[Resolution, ...] = ()


def cherry_pick(
    source: str,
    batches: Sequence[str],
    *,
    onto: str,
    choices: Mapping[str, str] | None = None,
    resolutions: Mapping[str, str] | None = None,
    message: str = "",
    author: str | None = None,
    measured: bool = True,
    suite: Suite | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Picked:
    """Register a version with batches of another one put in force.

    In conflicts `ours` is the version that is built on and `theirs` what is picked. Edits that
    were reverted by hand in the source stay out.

    Args:
        source: `NAME@REF`, a version that lists the batches.
        batches: by the beginning of their digests.
        onto: `NAME@REF`, the version to build on.
        choices: for each kind of conflict what to do.
        resolutions: for single conflicts, by id.
        message: why.
        author: who; None takes `MLEDIT_AUTHOR`, git's user or the account.
        measured: measure the new version; else its scorecard is empty.
        suite: what to measure test retention and perplexity on; None takes the shipped one.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        MergeConflict: conflicts are left; carries them.
        BaseMismatchError: the two are edits to different base models.
        VersionNotFound, EditNotFound: there is no such version or batch.
    """
    author, message = checked_author(author), checked_message(message)
    chosen = Choices(choices, resolutions)
    registry, reporter = open_registry(registry), reporter or Silent()
    origin, target = registry.resolve(parse_ref(source)), registry.resolve(parse_ref(onto))
    manifest = registry.manifest(target)
    old, offered = Content.of(manifest), _offered(registry, origin, target)
    wanted = find_batches(offered, batches)
    if not wanted:
        raise InvalidInputError("nothing to pick", hint=f"Its batches: mledit show {source}")
    sides = _sides(old, offered, wanted)
    conflicts = find_conflicts(registry, sides)
    new, recorded, left = resolve(sides.merged, conflicts, chosen)
    if left:
        raise unresolved(left, hint=f"Choose: -X {left[0].kind}={'|'.join(left[0].choices)}")
    if new.digest(manifest.base.digest) == target.content_digest:
        raise InvalidInputError(
            f"{onto} holds these batches already", hint="There is nothing to do."
        )
    made = Recomposition("cherry-pick", (target,), manifest.base, old, new, recorded)
    fresh = [registry.edits(offered.batches[digest]) for digest in wanted]
    digests = frozenset(edit.digest for edits in fresh for edit in edits)
    trial = made.try_out(registry, digests, suite, reporter, measured=measured)
    names = ", ".join(digest[:12] for digest in wanted)
    info, written, told, review = made.publish(
        registry,
        trial,
        author=author,
        message=message or f"Pick {names} from {origin.name}@{origin.version}",
        reporter=reporter,
    )
    forks = other_heads(registry, info)
    for said in forks:
        reporter.warn(said)
    scorecard = trial.evaluation.scorecard
    shown = detail(info, written, scorecard, warnings=(*told, *forks), review=review)
    return Picked(
        **shown.model_dump(),
        picked=tuple(wanted),
        conflicts=tuple(conflicts),
        resolutions=recorded,
    )


def _offered(registry: Registry, origin: VersionInfo, target: VersionInfo) -> Content:
    """Return the content that is picked from.

    Raises:
        BaseMismatchError: it is of edits to another base model.
    """
    given, base = registry.manifest(origin), registry.manifest(target).base
    if given.base.digest != base.digest:
        raise BaseMismatchError(
            f"{origin.name}@{origin.version} edits the base model {given.base.digest[:12]}, "
            f"{target.name}@{target.version} edits {base.digest[:12]}",
            hint="A batch holds for the base model that it was learned on; apply its edits again.",
        )
    return Content.of(given)


def _sides(old: Content, offered: Content, wanted: Collection[str]) -> Sides:
    """Set what is picked beside what it is brought to: nothing was theirs before."""
    picked = Content.closed(
        [offered.batches[digest] for digest in wanted],
        [x for x in offered.exclusions if x.reason == "reverted" and x.batch not in old.batches],
    )
    reopened = [x for x in old.exclusions if x.reason != "reverted" or x.batch not in wanted]
    ours = Content.closed(old.batches.values(), reopened)
    return Sides((Content({}, frozenset()),), ours, picked)
