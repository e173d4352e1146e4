"""A measured version on its way into a registry, with all that reviewers are given of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.manifest import BaseRef, BatchRef, Exclusion, Manifest
from mlflow_edit.core.results import EntryView, ProbeResult, Provenance, Unsolved
from mlflow_edit.core.review import Review
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.evaluation.evaluate import Evaluation
from mlflow_edit.operations.description import description
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.radii import exact_distances
from mlflow_edit.registry.names import RESULTS, REVIEW
from mlflow_edit.registry.registry import Draft, Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch
from mlflow_edit.review.page import review_page


@dataclass(frozen=True, slots=True)
class Publication:
    """What a new version is made of, whichever verb made it.

    `edits` are those in force, with their batches; `stored` is the batch that was just learned,
    where one was.
    """

    name: str
    verb: str
    base: BaseRef
    parents: tuple[VersionInfo, ...]
    batches: tuple[BatchRef, ...]
    exclusions: tuple[Exclusion, ...]
    edits: tuple[tuple[str, Edit], ...]
    evaluation: Evaluation
    author: str
    message: str
    started: float
    stored: StoredBatch | None = None
    unsolved: tuple[Unsolved, ...] = ()
    provenance: Provenance | None = None

    def publish(self, registry: Registry) -> tuple[VersionInfo, Manifest]:
        """Register the version (see `Registry.publish`)."""
        created_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        parent = self._parent_scorecard(registry)
        made: list[Manifest] = []  # read from here: nothing may fail once the version is visible

        def manifest(run_id: str) -> Manifest:
            made.append(self._manifest(run_id, created_at))
            return made[-1]

        info = registry.publish(
            Draft(
                name=self.name,
                verb=self.verb,
                manifest=manifest,
                base=self.base,
                scorecard=self.evaluation.scorecard,
                batch=self.stored,
                started_at=self.started,
                params=self._params(),
                tags=self._tags(),
                provenance=self.provenance,
                documents=lambda manifest: self._documents(manifest, parent),
                description=self._description,
            )
        )
        return info, made[-1]

    def _parent_scorecard(self, registry: Registry) -> Scorecard | None:
        """Return what the first parent measured; the root version measures nothing."""
        if not self.parents:
            return None
        scorecard = registry.scorecard(self.parents[0], registry.manifest(self.parents[0]))
        return scorecard if scorecard.metrics() else None

    def _manifest(self, run_id: str, created_at: str) -> Manifest:
        refs = {ref.digest: ref for ref in self.batches}
        if self.stored is not None and self.stored.record.digest not in refs:
            refs[self.stored.record.digest] = self.stored.reference(run_id)
        out = {(item.batch, item.edit): item for item in self.exclusions}
        return Manifest(
            base=self.base,
            parents=tuple(parent.digest for parent in self.parents),
            batches=tuple(refs.values()),
            exclusions=tuple(out.values()),
            author=self.author,
            created_at=created_at,
            message=self.message,
            scorecard=self.evaluation.scorecard.digest,
        )

    def _documents(self, manifest: Manifest, parent: Scorecard | None) -> dict[str, bytes]:
        review = Review(
            name=self.name,
            manifest=manifest,
            scorecard=self.evaluation.scorecard,
            parent_scorecard=parent,
            edits=tuple(self.stored.edits) if self.stored else tuple(e for _, e in self.edits),
            results=self.evaluation.results,
            unsolved=self.unsolved,
            entries=self._entries(),
            provenance=self.provenance,
            editor=self.stored.record.editor if self.stored else "",
            params=dict(self.stored.record.params) if self.stored else {},
        )
        table = results_table(self.evaluation.results)
        return {RESULTS: table, REVIEW: review_page(review).encode()}

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
        return {name: value for name, value in params.items() if value}

    def _tags(self) -> dict[str, str]:
        table = [{"path": RESULTS, "type": "table"}]
        tags = {"mledit.verb": self.verb, "mlflow.loggedArtifacts": json.dumps(table)}
        origin = self.provenance
        if origin is None:
            return tags
        found = {
            "mlflow.source.name": origin.path,
            "mlflow.source.git.commit": origin.commit,
            "mledit.edits.author": origin.author,
            "mledit.edits.dirty": None if origin.dirty is None else str(origin.dirty).lower(),
        }
        return {**tags, **{key: value for key, value in found.items() if value}}

    def _entries(self) -> tuple[EntryView, ...]:
        """Draw the entries of the batch that was just learned."""
        if self.stored is None or not isinstance(self.stored.patch, Codebook):
            return ()
        return entry_views(self.stored.patch, self.stored.record.digest, list(self.stored.edits))

    def _description(self, info: VersionInfo) -> str:
        return description(
            info,
            message=self.message,
            author=self.author,
            base=self.base.digest,
            evaluation=self.evaluation,
            unsolved=[edit.edit_id for edit in self.unsolved],
        )


def results_table(results: Sequence[ProbeResult]) -> bytes:
    """Write the rows worth reading as an MLflow table: edits, what fired, what is not as it was."""
    columns = ["metric", "edit_id", "prompt", "expected", "before", "after", "ok", "fired"]
    columns += ["distance", "radius"]
    data = []
    for row in results:
        if row.ok and row.fired is None and row.metric not in ("reliability", "retention"):
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
            ]
        )
    return json.dumps({"columns": columns, "data": data}, ensure_ascii=False).encode()


def entry_views(book: Codebook, batch: str, edits: Sequence[Edit]) -> tuple[EntryView, ...]:
    """Place the entries of a codebook in the plane of their first two principal components."""
    if not len(book):
        return ()
    by_id = {edit.id: edit for edit in edits}
    keys = book.keys.float()
    plane = _principal_plane(keys)
    distances = exact_distances(keys, keys).fill_diagonal_(torch.inf)
    nearest = distances.min(dim=1)
    single = len(book) == 1
    return tuple(
        EntryView(
            edit_id=book.edit_ids[i],
            batch=batch,
            prompt=by_id[book.edit_ids[i]].prompt,
            target=by_id[book.edit_ids[i]].target,
            x=round(float(plane[i, 0]), 3),
            y=round(float(plane[i, 1]), 3),
            radius=float(book.radii[i]),
            effective_radius=float(book.effective_radii[i]),
            nearest_edit=None if single else book.edit_ids[int(nearest.indices[i])],
            nearest_distance=None if single else float(nearest.values[i]),
        )
        for i in range(len(book))
    )


def _principal_plane(keys: torch.Tensor) -> torch.Tensor:
    centred = keys - keys.mean(dim=0)
    if min(centred.shape) < 2:
        return torch.zeros(len(keys), 2)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    signs = directions[:2].sum(dim=1).sign()  # the sign of a component is arbitrary: fix it
    plane: torch.Tensor = centred @ (directions[:2] * signs[:, None]).T
    return plane
