"""Conflicts of a merge, how they were settled, and what is left."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow_edit.core.conflicts import Conflict
from mlflow_edit.core.content import Content
from mlflow_edit.core.manifest import Resolution
from mlflow_edit.errors import ConflictError, MergeConflict
from mlflow_edit.operations.conflict_search import lost_prompts
from mlflow_edit.operations.pairing import Merged, Pairing, State
from mlflow_edit.operations.recomposition import Recomposition
from mlflow_edit.operations.resolving import unresolved
from mlflow_edit.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Settlement:
    """The content that a merge would have, after what was chosen for its conflicts."""

    pairing: Pairing
    content: Content
    conflicts: tuple[Conflict, ...]
    recorded: tuple[Resolution, ...]
    left: tuple[Conflict, ...]

    def outcome(self, state: State, **more: Any) -> Merged:
        """Say what came of the merge."""
        return self.pairing.outcome(
            state, self.conflicts, self.left, resolutions=self.recorded, **more
        )

    def dry_run(self, strategy: str) -> Merged:
        """Say what would come of it; the content is known where nothing is to be computed."""
        known = strategy == "sum"
        digest = self.content.digest(self.pairing.base.digest) if known else None
        return self.outcome("dry-run", content_digest=digest)

    def refusal(self) -> MergeConflict:
        """Make the error that names the conflicts left."""
        name = self.pairing.ours.name
        return unresolved(
            self.left,
            outcome=self.pairing.outcome("conflicts", self.conflicts, self.left),
            hint=f"mledit conflicts list {name}; mledit conflicts resolve {name} ID "
            f"--ours|--theirs|--drop; mledit merge {name} --continue (or --abort). "
            "Or at once: -X contradiction=ours|theirs|drop.",
        )

    def check_answers(self, registry: Registry) -> None:
        """See that what both sides answer is answered still, unless it was chosen to be dropped.

        Raises:
            ConflictError: choices that exclude one another in a circle.
        """
        if any(one.choice == "drop" for one in self.recorded):
            return
        lost = lost_prompts(registry, self.pairing.sides, self.content)
        if lost:
            raise ConflictError(
                f"these resolutions leave nothing to answer {lost[0]!r}, which both sides answer",
                hint="Each excludes the other's edit in a circle; choose again.",
            )

    def union(self) -> Recomposition:
        """Return the version that has all batches of both sides."""
        pairing = self.pairing
        parents = (pairing.ours, pairing.theirs)
        return Recomposition(
            "merge", parents, pairing.base, pairing.sides.ours, self.content, self.recorded
        )

    def accepting(self, worse: Sequence[Conflict]) -> "Settlement":
        """Add metrics that got worse and were accepted."""
        return replace(
            self,
            conflicts=self.conflicts + tuple(worse),
            recorded=self.recorded
            + tuple(Resolution(conflict=c.id, kind=c.kind, choice="accept") for c in worse),
        )
