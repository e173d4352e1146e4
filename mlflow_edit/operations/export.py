"""Pack a version with everything it needs into one folder."""

from pathlib import Path

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.registry.exported import write_export
from mlflow_edit.registry.names import RESULTS, REVIEW, SCORECARD, parse_ref
from mlflow_edit.registry.registry import Registry


class Exported(FrozenModel):
    """A folder that `mlflow.pyfunc.load_model` opens with no tracking server."""

    name: str
    version: int
    digest: str
    folder: str
    n_files: int
    bytes: int


def export(
    ref: str,
    folder: str | Path,
    *,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Exported:
    """Write a version, its batches and its base model into a new folder.

    Args:
        ref: `NAME@REF`.
        folder: to be made; it must not be there.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: the folder is there already, or cannot be written.
        VersionNotFound: there is no such version.
        IntegrityError, BaseMismatchError: what is stored is not what was registered.
    """
    registry, reporter = open_registry(registry), reporter or Silent()
    info = registry.resolve(parse_ref(ref))
    manifest = registry.manifest(info)
    reporter.stage("reading the batches")
    batches = registry.batches(manifest)
    files = {SCORECARD: registry.scorecard(info, manifest).to_bytes()}
    for name in (REVIEW, RESULTS):
        data = registry.document(info, name)
        files |= {name: data} if data is not None else {}
    reporter.stage("copying the base model")
    target = Path(folder)
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
    written = [path for path in target.rglob("*") if path.is_file()]
    return Exported(
        name=info.name,
        version=info.version,
        digest=info.digest,
        folder=str(target),
        n_files=len(written),
        bytes=sum(path.stat().st_size for path in written),
    )
