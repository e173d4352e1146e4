"""A version in one folder, with everything that it needs: no tracking server is asked."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlflow_edit.core.manifest import BaseRef, Manifest
from mlflow_edit.errors import CorruptPatch, IntegrityError, InvalidInputError
from mlflow_edit.models.base_files import base_files
from mlflow_edit.registry.names import BATCH_FILES, MANIFEST, batch_path
from mlflow_edit.registry.stored_batch import StoredBatch
from mlflow_edit.registry.version_files import write_model

BASE, ENCODERS = "base", "encoders"


class ExportedVersion:
    """Reads what `write_export` wrote, through the same checks as any registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def is_at(folder: Path) -> bool:
        """Tell whether a folder holds an exported version."""
        return (folder / BASE).is_dir() and (folder / MANIFEST).is_file()

    def batches(self, manifest: Manifest) -> dict[str, StoredBatch]:
        """Read and verify the batches of a version, by digest.

        Raises:
            IntegrityError: one is missing or damaged, or was made for another base model.
        """
        found: dict[str, StoredBatch] = {}
        for ref in manifest.batches:
            path = self.folder / batch_path(ref.digest)
            try:
                files = {name: (path / name).read_bytes() for name in BATCH_FILES}
            except OSError as error:
                raise CorruptPatch(f"batch {ref.digest[:12]} cannot be read: {error}") from error
            found[ref.digest] = StoredBatch.from_files(files, digest=ref.digest)
            if found[ref.digest].record.base != manifest.base.digest:
                raise IntegrityError(f"batch {ref.digest[:12]} was made for another base model")
        return found

    def base_folder(self, base: BaseRef) -> Path:
        """Return the folder of the base model; the caller verifies its digest."""
        return self.folder / BASE

    def encoder_folder(self, digest: str) -> Path | None:
        """Return the folder of a sentence encoder; the caller verifies its digest."""
        folder = self.folder / ENCODERS / digest
        return folder if folder.is_dir() else None

    def forget_base(self, base: BaseRef) -> None:
        """Do nothing: the folder is no cache."""


def write_export(
    target: Path,
    manifest: Manifest,
    batches: Mapping[str, StoredBatch],
    base: Path,
    *,
    files: Mapping[str, bytes],
    encoders: Mapping[str, Path],
    links: bool = False,
) -> None:
    """Write a version and everything that it needs into a new folder, or nothing.

    Args:
        target: the folder to make.
        manifest: of the version.
        batches: at least those that it lists.
        base: the folder of the base model.
        files: documents to put beside the manifest.
        encoders: folders of the sentence encoders that batches need, by digest.
        links: link the base model's files where that is possible, instead of copying them.

    Raises:
        InvalidInputError: the folder is there already, or cannot be written.
    """
    with new_folder(target) as folder:
        write_model(folder, manifest, dict(files), model_id=None)
        for ref in manifest.batches:
            path = folder / batch_path(ref.digest)
            path.mkdir(parents=True)
            for name, data in batches[ref.digest].files().items():
                (path / name).write_bytes(data)
        places = {folder / ENCODERS / digest: found for digest, found in encoders.items()}
        for target_folder, source in {folder / BASE: base, **places}.items():
            target_folder.mkdir(parents=True)
            for file in [one for group in base_files(source) for one in group]:
                place = target_folder / file.name
                if not place.exists():
                    _put(file, place, links=links)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder that takes its name when the context succeeds."""
    if target.exists():
        raise InvalidInputError(f"{target} exists already", hint="Name a new folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        try:
            part.chmod(0o755)  # as `mkdir` makes them
            yield part
            os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise InvalidInputError(f"{target} cannot be written: {error}") from error


def _put(source: Path, target: Path, *, links: bool) -> None:
    if links:
        target.symlink_to(source.resolve())
    else:
        shutil.copy2(source, target)
