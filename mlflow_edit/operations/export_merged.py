"""Write a version as a plain transformers model: its deltas are added to the weights for good."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.text import counted
from mlflow_edit.errors import DigestMismatch, InvalidInputError
from mlflow_edit.models.base_digest import base_digest
from mlflow_edit.models.base_files import base_files, find_base
from mlflow_edit.models.checkpoint import Checkpoint, outline
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.patches.composition import Composition
from mlflow_edit.patches.weights import Weights
from mlflow_edit.registry.exported import new_folder
from mlflow_edit.registry.registry import Registry


def export_merged(
    registry: Registry,
    manifest: Manifest,
    composition: Composition,
    target: Path,
    reporter: Reporter,
    *,
    documents: Mapping[str, bytes],
) -> None:
    """Write a model folder that transformers loads alone, with the base's files, shards and dtypes.

    One tensor is in memory at a time. Weights are added up as `patches.weights` does, and rounded
    once, to the type in which the base stores them.

    Raises:
        InvalidInputError: the version has codebooks.
        BaseMismatchError, IntegrityError: base or weights are not those that were registered.
        UnsupportedModel: the base stores a touched weight in another form than the model has it.
    """
    refuse_codebooks(composition, manifest)
    source = registry.base_folder(manifest.base)
    reporter.stage("verifying the base model")
    checked_base(source, manifest)
    checkpoint, weights = Checkpoint(source), composition.weights or Weights([])
    places = checkpoint.names_of(outline(checkpoint.weights), weights.touched)
    edited = {
        stored: partial(weights.materialise, name)
        for name, some in places.items()
        for stored in some
    }
    reporter.stage("writing the weights")
    with new_folder(target) as folder:
        checkpoint.copy(folder, edited)
        for file in [one for group in base_files(source) for one in group]:
            if ".safetensors" not in file.name and not (folder / file.name).exists():
                shutil.copy2(file, folder / file.name)
        for name, data in documents.items():
            (folder / name).write_bytes(data)
        reporter.stage("verifying the weights")
        _check(Checkpoint(folder), checkpoint, weights, places, manifest)


def refuse_codebooks(composition: Composition, manifest: Manifest) -> None:
    """Refuse a version whose edits are not all in its weights.

    Raises:
        InvalidInputError: it has codebooks in force.
    """
    if not composition.patches:
        return
    held = set(composition.batch_of.values())
    books = [ref.digest[:12] for ref in manifest.batches if ref.digest in held]
    some = counted(len(books), "batch", "batches")
    raise InvalidInputError(
        f"no plain model can hold the codebooks of {some}: {', '.join(books)}",
        hint="Export --as packed; or take them out (mledit revert), or learn their edits into "
        "the weights (mledit apply --editor memit …), and export that version.",
    )


def checked_base(source: Path, manifest: Manifest) -> None:
    """Check that a folder holds the base model of a version.

    Raises:
        DigestMismatch: it does not.
    """
    folders = find_base(source)
    found = base_digest(folders.weights, folders.tokenizer)
    if found != manifest.base.digest:
        raise DigestMismatch(
            f"the base model has digest {found[:12]}, expected {manifest.base.digest[:12]}",
            hint="Its stored files were changed or damaged: mledit verify.",
        )


def _check(
    written: Checkpoint,
    source: Checkpoint,
    weights: Weights,
    places: dict[str, tuple[str, ...]],
    manifest: Manifest,
) -> None:
    """Check what was written against the digest that was registered, which is of float32 weights.

    Where the base is stored in 16 bits the weights are added up once more in float32; that the
    files hold what was computed was checked when they were written.
    """
    if manifest.weights is None:
        return

    def weight(name: str) -> Tensor:
        found = written.read(places[name][0])
        if found.dtype == torch.float32:
            return found
        return weights.materialise(name, source.read(places[name][0]).float())

    actual = weights.digest_of(weight)
    if actual != manifest.weights:
        raise DigestMismatch(
            f"the weights have digest {actual[:12]}, expected {manifest.weights[:12]}",
            hint="Nothing was written. The base stores a weight in another form than the model "
            "has it, or a library that computes with it is not what it was.",
        )
