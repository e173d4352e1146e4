"""A measured version on its way into a registry, with all that reviewers are given of it."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from mlflow_edit.core.content import Content
from mlflow_edit.core.contextual import contextual
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.manifest import BaseRef, BatchRef, Manifest, Merging, Resolution
from mlflow_edit.core.results import ProbeResult, Provenance, ScopeView, Unsolved
from mlflow_edit.core.review import Comparison, Review
from mlflow_edit.operations.comparison import compare
from mlflow_edit.operations.description import description
from mlflow_edit.operations.measuring import Trial
from mlflow_edit.operations.reporter import REGISTERING, Reporter
from mlflow_edit.operations.review import ReviewState, ask_reviewers, place_of_review
from mlflow_edit.operations.scope_views import scope_views
from mlflow_edit.operations.weight_views import weights_view
from mlflow_edit.patches.composition import Part
from mlflow_edit.registry.names import RESULTS, REVIEW
from mlflow_edit.registry.pinned_base import pinned_encoder
from mlflow_edit.registry.registry import Draft, Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch
from mlflow_edit.review.page import review_page


class Published(NamedTuple):
    """A version that was just registered, what its readers are warned of, and its review."""

    info: VersionInfo
    manifest: Manifest
    warnings: tuple[str, ...]
    review: ReviewState | None


@dataclass(frozen=True, slots=True)
class Publication:
    """What a new version is made of, whichever verb made it.

    `stored` is the batch that was just learned, where one was, and `known` the references that the
    parents have; `relearned` are batches of the parents that were learned again; `taken` and
    `returned` are the edits that a version without a new batch no longer answers by, or answers by
    again.
    """

    name: str
    verb: str
    base: BaseRef
    parents: tuple[VersionInfo, ...]
    content: Content
    trial: Trial
    author: str
    message: str
    started: float
    stored: StoredBatch | None = None
    relearned: tuple[StoredBatch, ...] = ()
    merging: Merging | None = None
    known: tuple[BatchRef, ...] = ()
    unsolved: tuple[Unsolved, ...] = ()
    provenance: Provenance | None = None
    resolutions: tuple[Resolution, ...] = ()
    taken: tuple[Edit, ...] = ()
    returned: tuple[Edit, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What readers of the version must know: keys that moved, contextual deltas."""
        refs = [*self.content.batches.values()]
        odd = contextual(refs, self.content.excluded())
        return (*self.trial.warnings, *(one.said for one in odd))

    def publish(self, registry: Registry, reporter: Reporter) -> Published:
        """Register the version (see `Registry.publish`), then put it before reviewers.

        The reporter is told of the warnings that it does not know yet.
        """
        reporter.stage(REGISTERING)
        created_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        scorecard = self.trial.evaluation.scorecard
        comparison = compare(registry, self.name, self.parents, scorecard)
        scopes = self._scopes(registry)
        made: list[Manifest] = []  # read from here: nothing may fail once the version is visible

        def manifest(run_id: str) -> Manifest:
            made.append(self._manifest(run_id, created_at))
            return made[-1]

        place = place_of_review(registry, self.name)
        info = registry.publish(
            Draft(
                name=self.name,
                verb=self.verb,
                manifest=manifest,
                base=self.base,
                scorecard=scorecard,
                batch=self.stored,
                relearned=self.relearned,
                started_at=self.started,
                params=self._params(),
                tags=self._tags(),
                provenance=self.provenance,
                documents=lambda manifest: self._documents(manifest, comparison, scopes),
                description=self._description,
                review=place,
            )
        )
        if place:
            reporter.stage("asking for a review")
        review = ask_reviewers(registry, info, made[-1], place)
        failed = (review.said,) if review is not None and review.failed else ()
        warnings = (*self.warnings, *failed)
        for said in warnings[len(self.trial.warnings) :]:
            reporter.warn(said)
        return Published(info, made[-1], warnings, review)

    def _manifest(self, run_id: str, created_at: str) -> Manifest:
        refs = dict(self.content.batches)
        refs |= {one.record.digest: one.reference(run_id) for one in self.relearned}
        if self.stored is not None:
            made = self.stored.reference(run_id)
            refs[made.digest] = next((r for r in self.known if r.digest == made.digest), made)
        return Manifest(
            base=self.base,
            parents=tuple(parent.digest for parent in self.parents),
            batches=tuple(refs.values()),
            exclusions=tuple(self.content.exclusions),
            resolutions=self.resolutions,
            author=self.author,
            created_at=created_at,
            message=self.message,
            scorecard=self.trial.evaluation.scorecard.digest,
            weights=self.trial.weights,
            merging=self.merging,
        )

    def _documents(
        self, manifest: Manifest, comparison: Comparison, scopes: tuple[ScopeView, ...]
    ) -> dict[str, bytes]:
        new = self.stored.record if self.stored else None
        weights = self.trial.composition.weights if self.trial.composition else None
        review = Review(
            name=self.name,
            verb=self.verb,
            manifest=manifest,
            batch=new.digest if new else None,
            scorecard=self.trial.evaluation.scorecard,
            comparison=comparison,
            warnings=self.warnings,
            edits=tuple(self.stored.edits) if self.stored else (),
            taken=self.taken,
            returned=self.returned,
            results=self.trial.evaluation.results,
            unsolved=self.unsolved,
            scopes=scopes,
            weights=weights_view(
                weights, self.trial.changes, self.content, new.digest if new else None
            ),
            provenance=self.provenance,
            editor=new.editor if new else "",
            params=dict(new.params) if new else {},
            seconds=round(time.time() - self.started, 1),
        )
        table = results_table(self.trial.evaluation.results)
        return {RESULTS: table, REVIEW: review_page(review).encode()}

    def _scopes(self, registry: Registry) -> tuple[ScopeView, ...]:
        """Draw the codebooks of the version: read before anything is stored."""
        found = self.trial.composition
        if found is None or not found.patches:
            return ()
        new = None
        if self.stored is not None:
            digest = self.stored.record.digest
            out = {edit for batch, edit in self.content.excluded() if batch == digest}
            new = Part(digest, self.stored.patch, frozenset(out))
        return scope_views(found, self.trial.edits, partial(pinned_encoder, registry), new)

    def _params(self) -> dict[str, str]:
        params = {"verb": self.verb, "base_digest": self.base.digest, "message": self.message}
        if self.stored is not None:
            record = self.stored.record
            params |= {
                "editor": record.editor,
                "batch": record.digest,
                "n_edits": str(record.n_edits),
                "n_unsolved": str(len(self.unsolved)),
                **{f"{record.editor}.{k}": str(v) for k, v in record.params.items()},
            }
        if self.merging is not None:
            said = self.merging.model_dump(mode="json", exclude={"of"}, exclude_none=True)
            params |= {f"merge.{name}": str(value) for name, value in said.items()}
        return {name: value for name, value in params.items() if value}

    def _tags(self) -> dict[str, str]:
        table = [{"path": RESULTS, "type": "table"}]
        return {"mledit.verb": self.verb, "mlflow.loggedArtifacts": json.dumps(table)}

    def _description(self, info: VersionInfo) -> str:
        return description(
            info,
            message=self.message,
            author=self.author,
            base=self.base.digest,
            evaluation=self.trial.evaluation,
            unsolved=[edit.edit_id for edit in self.unsolved],
            warnings=self.warnings,
        )


def results_table(results: Sequence[ProbeResult]) -> bytes:
    """Write the rows worth reading as an MLflow table: edits, what fired, what is not as it was.

    What no edit fired on and the base model answers just so is left out, failed or not.
    """
    columns = ["metric", "edit_id", "prompt", "expected", "before", "after", "ok", "fired"]
    columns += ["distance", "radius", "match"]
    data = []
    for row in results:
        moved = row.fired is not None or row.before != row.after
        if not moved and row.metric not in ("reliability", "retention"):
            continue
        fired = row.fired
        data.append(
            [
                row.metric,
                row.edit_id,
                row.prompt,
                row.expected[0] if row.expected else None,
                row.before,
                row.after,
                row.ok,
                fired.edit_id if fired else None,
                round(fired.distance, 4) if fired else None,
                round(fired.radius, 4) if fired else None,
                round(fired.match, 4) if fired and fired.match is not None else None,
            ]
        )
    return json.dumps({"columns": columns, "data": data}, ensure_ascii=False).encode()
