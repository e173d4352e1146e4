"""Write a version's low-rank deltas as an adapter of peft, to be put on the base model."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from mlflow_edit.core.manifest import Manifest
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.models.adapter import factors_of, write_adapter
from mlflow_edit.models.base_files import find_base
from mlflow_edit.models.checkpoint import outline
from mlflow_edit.operations.export_merged import checked_base, refuse_codebooks
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.patches.changes import Change
from mlflow_edit.patches.composition import Composition
from mlflow_edit.registry.exported import new_folder
from mlflow_edit.registry.registry import Registry


def export_lora(
    registry: Registry,
    manifest: Manifest,
    composition: Composition,
    target: Path,
    reporter: Reporter,
    *,
    documents: Mapping[str, bytes],
) -> None:
    """Write an adapter folder; base and adapter together compute what the version does.

    Raises:
        InvalidInputError: the version has codebooks, or no deltas.
        UnsupportedModel: a change is not low-rank, or not of a linear layer's weight.
        IntegrityError: the base is not the one that was registered.
    """
    refuse_codebooks(composition, manifest)
    changes: dict[str, list[Change]] = defaultdict(list)
    for _, delta in composition.weights.parts if composition.weights else ():
        for change in delta.changes:
            changes[change.tensor].append(change)
    source = registry.base_folder(manifest.base)
    reporter.stage("verifying the base model")
    checked_base(source, manifest)
    model = outline(find_base(source).weights)
    factors = factors_of(model, changes)
    if not factors:
        raise InvalidInputError(
            "the version changes no weights: there is nothing to put into an adapter",
            hint="Its base model is what it is: mledit export --as merged copies it.",
        )
    reporter.stage("writing the adapter")
    with new_folder(target) as folder:
        write_adapter(folder, model, factors, base=manifest.base.source or manifest.base.uri)
        for name, data in documents.items():
            (folder / name).write_bytes(data)
