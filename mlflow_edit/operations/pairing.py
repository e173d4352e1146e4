"""Two versions about to be joined, and what a merge of them came to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlflow_edit.core.conflicts import Conflict, conflict_id
from mlflow_edit.core.content import Content
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.lineage import Lineage
from mlflow_edit.core.manifest import BaseRef, Merging, Resolution
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import BaseMismatchError, IntegrityError
from mlflow_edit.operations.conflict_search import Sides, contents
from mlflow_edit.operations.version_view import VersionDetail
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
