"""Put what a version changes before reviewers, and read what they said of it."""

import os

from mlflow_edit.core.approval import Answered, Approvals, Change, Opinion, opinion_on
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.ledger import Entry, verdicts_on
from mlflow_edit.core.lineage import Lineage
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.errors import MlflowEditError
from mlflow_edit.operations.review_questions import changes_against, questions_of
from mlflow_edit.registry.names import REVIEW, REVIEW_TAG
from mlflow_edit.registry.registry import Registry, VersionInfo

IN_QUEUE, BY_PAGE = "queue", "page"  # what the tag says until there is a verdict
MAX_QUESTIONS = 2000
_OFF = ("0", "off", "no", "false")


class ReviewState(FrozenModel):
    """How the review of a version stands: of its changes, how many are approved, and by whom.

    `queue` is the link to the review queue, None where there is none; `said` then says why.
    """

    queue: str | None = None
    changes: int = 0
    approved: int = 0
    rejected: int = 0
    reviewers: tuple[str, ...] = ()
    said: str = ""
    failed: bool = False


def place_of_review(registry: Registry, name: str) -> str:
    """Say where a version about to be registered will be reviewed: the tag `mledit.review`.

    `MLEDIT_REVIEW_QUEUE=off` asks for no review at all.
    """
    if os.environ.get("MLEDIT_REVIEW_QUEUE", "on").strip().lower() in _OFF:
        return ""
    return IN_QUEUE if registry.no_queues(name) is None else BY_PAGE


def ask_reviewers(
    registry: Registry, info: VersionInfo, manifest: Manifest, place: str
) -> ReviewState | None:
    """Put what a visible version changes before its reviewers, where `place` says.

    Nothing is raised: the version is registered, and `verify --fix` asks again.
    """
    if place != IN_QUEUE:
        said = registry.no_queues(info.name) or ""
        return ReviewState(said=_by_page(info, said)) if place else None
    try:
        questions = questions_of(registry, info, manifest)
        if len(questions) > MAX_QUESTIONS:
            registry.tag(info, REVIEW_TAG, BY_PAGE)
            said = f"more than {MAX_QUESTIONS:,} changes are too many for a review queue"
            return ReviewState(changes=len(questions), said=_by_page(info, said))
        if not questions:
            return None
        queue = registry.ask(info, questions)
    except (MlflowEditError, KeyboardInterrupt) as error:
        said = error.message if isinstance(error, MlflowEditError) else "interrupted"
        known = f"{info.name}@{info.version} is registered, but its review queue is not whole"
        return ReviewState(said=f"{known} ({said}): mledit verify {info.name} --fix", failed=True)
    return ReviewState(queue=queue.link, changes=len(questions))


def _why_not(registry: Registry, info: VersionInfo) -> str:
    """Say why a version is in no review queue, and what to do."""
    refused = registry.no_queues(info.name)
    if refused is None and registry.tagged(info, REVIEW_TAG) == IN_QUEUE:
        return f"its review queue is gone: mledit verify {info.name} --fix"
    return _by_page(info, refused or "it is in no review queue")


def _by_page(info: VersionInfo, why: str) -> str:
    return f"{why}: read its {REVIEW}, then mledit approve {info.name}@{info.version}"


def not_asked(registry: Registry, info: VersionInfo, manifest: Manifest) -> int:
    """Count what a version should have asked its reviewers, and has not."""
    if registry.tagged(info, REVIEW_TAG) != IN_QUEUE:
        return 0
    queue = registry.review_queue(info)
    asked = queue.asked if queue else {}
    return sum(one.id not in asked for one in questions_of(registry, info, manifest))


def review_state(registry: Registry, info: VersionInfo, manifest: Manifest) -> ReviewState:
    """Read how the review of a version stands."""
    versions = {one.digest: one for one in registry.versions(info.name)}
    parents = [versions[digest] for digest in manifest.parents if digest in versions]
    queue = registry.review_queue(info)
    verdicts = verdicts_on(registry.ledger(info.name), info.digest)
    if not parents and not verdicts:
        return ReviewState()
    changes = changes_against(registry, [registry.manifest(one) for one in parents], manifest)
    asked = queue.asked if queue else {}
    base = manifest.base.digest
    opinions = [
        opinion_on(change, info.author, asked.get(change.question(info.digest, base)), verdicts)
        for change in changes
    ]
    said = "" if queue else _why_not(registry, info)
    return ReviewState(
        queue=queue.link if queue else None,
        changes=len(opinions),
        approved=sum(not Approvals().lacks(one) for one in opinions),
        rejected=sum(bool(one.fails) for one in opinions),
        reviewers=tuple(sorted({who for one in opinions for who in (*one.passes, *one.fails)})),
        said=said,
    )


def opinions_on(
    registry: Registry, info: VersionInfo, holder: VersionInfo | None, entries: dict[int, Entry]
) -> list[Opinion]:
    """Return what was said of all that a version changes against the one that holds an alias.

    Each change counts as it was answered in the newest version between the two that asks about it,
    and as reviewers judged the version itself.
    """
    manifest = registry.manifest(info)
    before = [registry.manifest(holder)] if holder else []
    changes = changes_against(registry, before, manifest)
    verdicts = verdicts_on(entries, info.digest)
    found: dict[Change, tuple[str, Answered]] = {}
    for version in _between(registry, holder, info):
        queue = registry.review_queue(version)
        for change in changes if queue else ():
            asked = change.question(version.digest, manifest.base.digest)
            if queue is not None and asked in queue.asked:
                found[change] = (version.author, queue.asked[asked])
    return [
        opinion_on(change, author, answered, verdicts)
        for change in changes
        for author, answered in [found.get(change, (info.author, None))]
    ]


def _between(
    registry: Registry, holder: VersionInfo | None, info: VersionInfo
) -> list[VersionInfo]:
    """Return the versions that one descends from and the other does not, oldest first."""
    versions = {one.digest: one for one in registry.versions(info.name)}
    lineage = Lineage({digest: one.parents for digest, one in versions.items()})
    known = lineage.ancestors(holder.digest) if holder else frozenset[str]()
    return [versions[one] for one in lineage.in_order(lineage.ancestors(info.digest) - known)]
