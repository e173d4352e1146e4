"""Batches in MLflow: each lies with the run that made it, and is verified on every reading."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import BatchRef
from mlflow_edit.errors import IntegrityError, RegistryError, VersionNotFound
from mlflow_edit.registry import mlflow_artifacts
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.names import (
    BATCH_FILES,
    EDITS,
    PATCH,
    RECORD,
    batch_path,
    experiment_name,
)
from mlflow_edit.registry.registry import Draft
from mlflow_edit.registry.stored_edits import check_reference, read_edits, read_record

if TYPE_CHECKING:  # reading history must not wait for torch
    from mlflow_edit.patches.patch import Patch
    from mlflow_edit.registry.stored_batch import StoredBatch


class MlflowBatches:
    """Reads the files of batches, from the cache or from the store itself."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def edits(self, ref: BatchRef) -> EditBatch:
        """Read the edits of a batch."""
        with self._files(ref, RECORD, EDITS) as files:
            record = read_record(files, digest=ref.digest)
            check_reference(record, ref)
            return read_edits(files, record)

    def patch(self, ref: BatchRef) -> "Patch":
        """Read the patch of a batch."""
        from mlflow_edit.patches.format import read_patch

        with self._files(ref, RECORD, PATCH) as files:
            record = read_record(files, digest=ref.digest)
            check_reference(record, ref)
            return read_patch(files[PATCH], digest=record.patch)

    def cached(self, ref: BatchRef) -> "StoredBatch":
        """Read a batch from the run that made it."""
        with self._files(ref, *BATCH_FILES) as files:
            return _verified(files, ref)

    def stored(self, ref: BatchRef) -> "StoredBatch":
        """Read a batch from the store itself, past the cache."""
        path = batch_path(ref.digest)
        files = mlflow_artifacts.read_run_files(self._client, ref.run_id, path, BATCH_FILES)
        with mlflow_errors(f"reading run {ref.run_id}"):
            stage = self._client.get_run(ref.run_id).info.lifecycle_stage
        if stage != "active":
            raise IntegrityError(
                f"the run {ref.run_id} that holds batch {ref.digest[:12]} is {stage}",
                hint=f"'mlflow gc' would remove it. mlflow runs restore --run-id {ref.run_id}",
            )
        return _verified(files, ref)

    def run_with(self, draft: Draft) -> str | None:
        """Find the run that holds the draft's batch already, whole and readable."""
        if draft.batch is None:
            return None
        digest = draft.batch.record.digest
        with mlflow_errors(f"looking for batch {digest[:12]}"):
            experiment = self._client.get_experiment_by_name(experiment_name(draft.name))
            found = self._client.search_runs(
                [experiment.experiment_id],
                f"params.batch = '{digest}' and attributes.status = 'FINISHED'",
                order_by=["attributes.start_time"],
            )
        for run in found:
            with suppress(IntegrityError, RegistryError, VersionNotFound):
                self.stored(draft.batch.reference(run.info.run_id))
                return str(run.info.run_id)
        return None

    @contextmanager
    def _files(self, ref: BatchRef, *names: str) -> Iterator[dict[str, bytes]]:
        """Give files of a batch; a cached copy that proves damaged is dropped."""
        cache_as = f"batches/{ref.digest}"
        try:
            yield mlflow_artifacts.read_run_files(
                self._client, ref.run_id, batch_path(ref.digest), names, cache_as=cache_as
            )
        except IntegrityError:
            mlflow_artifacts.forget(cache_as)
            raise


def _verified(files: dict[str, bytes], ref: BatchRef) -> "StoredBatch":
    from mlflow_edit.registry.stored_batch import StoredBatch

    stored = StoredBatch.from_files(files, digest=ref.digest)
    check_reference(stored.record, ref)
    return stored
