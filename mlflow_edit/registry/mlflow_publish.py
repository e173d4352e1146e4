"""Publish a version to MLflow: all that it names first, itself by one last call."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)

from mlflow_edit.core.contextual import contextual_of
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import MlflowEditError
from mlflow_edit.registry.mlflow_bases import ensure_experiment
from mlflow_edit.registry.mlflow_errors import mlflow_errors
from mlflow_edit.registry.mlflow_versions import OPENED, OUR_VERB, provenance_tags
from mlflow_edit.registry.names import REVIEW_TAG, SCORECARD, batch_path, experiment_name
from mlflow_edit.registry.registry import Draft, VersionInfo

SHORT = 400  # a LoggedModel's parameter holds 500 characters
MAX_DESCRIPTION = 4900  # a version's description holds 5,000


@dataclass(frozen=True, slots=True)
class Published:
    """A stored version that is not visible yet."""

    manifest: Manifest
    run_id: str
    model_id: str

    @property
    def holds_batch(self) -> bool:
        """Tell whether this run is the one that holds the new batch."""
        return any(ref.run_id == self.run_id for ref in self.manifest.batches)


@contextmanager
def open_run(client: MlflowClient, draft: Draft) -> Iterator[str]:
    """Give a run for the length of a context; if the context fails, it is marked failed or killed.

    The context closes the run itself, by `finish_run`, when all of it is stored.
    """
    with mlflow_errors(f"starting the run of {draft.verb}"):
        experiment = ensure_experiment(client, experiment_name(draft.name))
        started = int((draft.started_at or time.time()) * 1000)
        origin = provenance_tags(draft.provenance) if draft.provenance else {}
        opened = {OPENED: str(time.time())}  # the start is that of the work, long before
        tags = {OUR_VERB: draft.verb, **draft.tags, **origin, **opened}
        run = client.create_run(experiment, start_time=started, run_name=draft.verb, tags=tags)
    run_id = str(run.info.run_id)
    try:
        yield run_id
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        with suppress(MlflowEditError), mlflow_errors("closing the run"):
            client.set_terminated(run_id, status)
        raise


def finish_run(client: MlflowClient, run_id: str) -> None:
    """Mark a run finished."""
    with mlflow_errors("closing the run"):
        client.set_terminated(run_id, "FINISHED")


def close(client: MlflowClient, stored: Published) -> None:
    """Mark the LoggedModel ready and the run finished: all is stored and was read back."""
    with mlflow_errors("closing the version"):
        client.finalize_logged_model(stored.model_id, LoggedModelStatus.READY)
    finish_run(client, stored.run_id)


@contextmanager
def open_model(
    client: MlflowClient, draft: Draft, manifest: Manifest, run_id: str
) -> Iterator[str]:
    """Give a LoggedModel for the length of a context, and mark it failed if the context fails."""
    with mlflow_errors("storing the version"):
        model = client.create_logged_model(
            client.get_run(run_id).info.experiment_id,
            name=draft.name,
            source_run_id=run_id,
            params=facts(manifest),
            model_type="mledit",
        )
    try:
        yield str(model.model_id)
    except BaseException:
        with suppress(MlflowEditError), mlflow_errors("closing the version"):
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise


def store(client: MlflowClient, draft: Draft, stored: Published) -> None:
    """Store all that a version names in its run and in a LoggedModel; nothing is visible yet."""
    with mlflow_errors("storing the version"), tempfile.TemporaryDirectory() as temporary:
        _store_run(client, draft, stored, Path(temporary) / "run")
        _store_model(client, draft, stored, Path(temporary) / "model")
        _store_lineage(client, draft, stored)


def make_visible(client: MlflowClient, draft: Draft, stored: Published, info: VersionInfo) -> int:
    """Register the version: the one call that makes it visible, and the last.

    Where the call fails, or is interrupted, after the store has done it, the version is there all
    the same: it is looked up before the failure is believed.
    """
    description = draft.description(info)[:MAX_DESCRIPTION]
    try:
        with mlflow_errors("registering the version"):
            version = client.create_model_version(
                draft.name,
                source=f"models:/{stored.model_id}",
                run_id=stored.run_id,
                model_id=stored.model_id,
                description=description,
                tags={**version_tags(stored.manifest), **_state_tags(draft)},
                await_creation_for=None,
            )
            return int(version.version)
    except (MlflowEditError, KeyboardInterrupt, SystemExit):
        number = _registered(client, draft.name, stored)
        if number is None:
            raise
        return number


def version_tags(manifest: Manifest) -> dict[str, str]:
    """Return what a list of versions in the MLflow UI shows."""
    return {"mledit.digest": manifest.digest[:12], "mledit.edits": str(manifest.n_edits)}


def _state_tags(draft: Draft) -> dict[str, str]:
    """Return what else the list shows; unlike the manifest's facts it may change."""
    reviewed = {REVIEW_TAG: draft.review} if draft.review else {}
    return {OUR_VERB: draft.verb, **reviewed}


def _registered(client: MlflowClient, name: str, stored: Published) -> int | None:
    """Return the number of the version, if the store has it."""
    with suppress(MlflowEditError), mlflow_errors("looking for the version"):
        found = client.search_model_versions(f"run_id = '{stored.run_id}'")
        numbers = [int(v.version) for v in found if v.name == name]
        return max(numbers) if numbers else None
    return None


def _store_run(client: MlflowClient, draft: Draft, stored: Published, folder: Path) -> None:
    files = draft.documents(stored.manifest)
    made = [draft.batch] if draft.batch is not None and stored.holds_batch else []
    for batch in (*made, *draft.relearned):
        path = batch_path(batch.record.digest)
        files |= {f"{path}/{name}": data for name, data in batch.files().items()}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    named = {"batch": draft.batch.record.digest} if draft.batch is not None else {}
    given = {**draft.params, **named}
    params = [Param(name, value[:6000]) for name, value in given.items() if value]
    tags = [RunTag("mledit.digest", stored.manifest.digest)]
    client.log_batch(stored.run_id, params=params, tags=tags)
    if files:
        client.log_artifacts(stored.run_id, str(folder))


def _store_model(client: MlflowClient, draft: Draft, stored: Published, folder: Path) -> None:
    from mlflow_edit.registry.version_files import write_model

    folder.mkdir(parents=True)
    files = {SCORECARD: draft.scorecard.to_bytes()}
    write_model(folder, stored.manifest, files, model_id=stored.model_id)
    client.log_model_artifacts(stored.model_id, str(folder))


def facts(manifest: Manifest) -> dict[str, str]:
    """Return what a list of versions shows, as the LoggedModel's write-once parameters."""
    facts = {
        "digest": manifest.digest,
        "content_digest": manifest.content_digest,
        "base": manifest.base.digest,
        "author": manifest.author,
        "created_at": manifest.created_at,
        "message": manifest.message,
        "n_edits": str(manifest.n_edits),
        "n_batches": str(len(manifest.batches)),
        "n_contextual": str(len(contextual_of(manifest)) or ""),
        **{f"parent_{i}": parent for i, parent in enumerate(manifest.parents)},
    }
    return {f"mledit.{name}": value[:SHORT] for name, value in facts.items() if value}


def _store_lineage(client: MlflowClient, draft: Draft, stored: Published) -> None:
    run_id, model_id = stored.run_id, stored.model_id
    dataset = None
    if draft.batch is not None:
        digest = draft.batch.record.edits
        dataset = Dataset(
            name=f"{draft.name}-edits",
            digest=digest[:32],
            source_type="mledit",
            source=f'{{"batch": "{draft.batch.record.digest}", "run_id": "{run_id}"}}',
            profile=f'{{"n_edits": {len(draft.batch.edits)}}}',
        )
    base = stored.manifest.base.uri.removeprefix("models:/")
    models = [LoggedModelInput(base)] if base.startswith("m-") else []
    datasets = (
        [DatasetInput(dataset, [InputTag("mlflow.data.context", "edits")])] if dataset else []
    )
    if models or datasets:
        client.log_inputs(run_id, datasets=datasets or None, models=models or None)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    metrics = scorecard_metrics(draft.scorecard, model_id=model_id, run_id=run_id, dataset=dataset)
    if metrics:
        client.log_batch(run_id, metrics=metrics)


def scorecard_metrics(
    scorecard: Scorecard, *, model_id: str | None, run_id: str, dataset: Dataset | None
) -> list[Metric]:
    """Make MLflow metrics, linked to the LoggedModel and to the dataset of edits."""
    numbers: Mapping[str, float] = {
        **scorecard.metrics(),
        **{f"n_{name}": float(n) for name, n in scorecard.n_probes.items()},
    }
    now = int(time.time() * 1000)
    return [
        Metric(
            key,
            value,
            now,
            0,
            model_id=model_id,
            dataset_name=dataset.name if dataset else None,
            dataset_digest=dataset.digest if dataset else None,
            run_id=run_id,
        )
        for key, value in numbers.items()
    ]
