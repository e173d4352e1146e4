"""Pack a version with everything it needs into one folder."""

from collections.abc import Mapping
from pathlib import Path

from mlflow_edit.core.manifest import Manifest
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.registry.exported import write_export
from mlflow_edit.registry.names import RESULTS, REVIEW, SCORECARD
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch


def export_packed(
    registry: Registry,
    info: VersionInfo,
    manifest: Manifest,
    batches: Mapping[str, StoredBatch],
    target: Path,
    reporter: Reporter,
) -> None:
    """Write a folder that `mlflow.pyfunc.load_model` opens with no tracking server.

    Raises:
        InvalidInputError: the folder is there already, or cannot be written.
    """
    files = {SCORECARD: registry.scorecard(info, manifest).to_bytes()}
    for name in (REVIEW, RESULTS):
        data = registry.document(info, name)
        files |= {name: data} if data is not None else {}
    reporter.stage("copying the base model")
    encoders = {
        batch.patch.encoder: registry.encoder_folder(batch.patch.encoder)
        for batch in batches.values()
        if isinstance(batch.patch, EncoderCodebook)
    }
    write_export(
        target,
        manifest,
        batches,
        registry.base_folder(manifest.base),
        files=files,
        encoders={digest: place for digest, place in encoders.items() if place is not None},
    )
