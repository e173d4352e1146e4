"""Write a version to a folder: packed, as a plain model, or as an adapter."""

import json
from pathlib import Path
from typing import Literal

from mlflow_edit.core.content import Content
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.operations.export_lora import export_lora
from mlflow_edit.operations.export_merged import export_merged
from mlflow_edit.operations.export_packed import export_packed
from mlflow_edit.operations.next_version import parts_of
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.patches.composition import compose
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo

Form = Literal["packed", "merged", "lora"]
FORMS: tuple[Form, ...] = ("packed", "merged", "lora")
ORIGIN = "mledit.json"


class Exported(FrozenModel):
    """A folder that was written; `registered` is the plain model in MLflow, where one was made."""

    name: str
    version: int
    digest: str
    form: Form
    folder: str
    n_files: int
    bytes: int
    registered: str | None = None


def export(
    ref: str,
    folder: str | Path,
    *,
    form: Form = "packed",
    register: str | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Exported:
    """Write a version into a new folder, verified; or nothing.

    Args:
        ref: `NAME@REF`.
        folder: to be made; it must not be there.
        form: `packed`, with its batches and base model, for `mlflow.pyfunc` with this package;
            `merged`, a plain transformers model with its deltas in the weights; `lora`, an adapter
            of peft.
        register: a registered model to which the merged one is added in MLflow, of the plain
            transformers flavor.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: the folder is there already, or cannot be written; the version has
            what this form cannot hold.
        UnsupportedModel: its deltas are none that an adapter can hold.
        VersionNotFound: there is no such version.
        IntegrityError, BaseMismatchError: what is stored is not what was registered.
    """
    if form not in FORMS:
        raise InvalidInputError(f"no form {form!r}", hint=f"One of {', '.join(FORMS)}.")
    if register is not None and form != "merged":
        raise InvalidInputError(
            f"only a merged model is registered, not a {form} one", hint="--as merged"
        )
    registry, reporter = open_registry(registry), reporter or Silent()
    info = registry.resolve(parse_ref(ref))
    manifest, target = registry.manifest(info), Path(folder)
    reporter.stage("reading the batches")
    batches = registry.batches(manifest)
    if form == "packed":
        export_packed(registry, info, manifest, batches, target, reporter)
    else:
        composition = compose(parts_of(Content.of(manifest), batches))
        write = export_merged if form == "merged" else export_lora
        origin = {ORIGIN: _origin(info, manifest)}
        write(registry, manifest, composition, target, reporter, documents=origin)
    made = None
    if register is not None:
        reporter.stage(f"registering {register}")
        made = registry.register_plain(register, target, source=info, base=manifest.base)
    written = [path for path in target.rglob("*") if path.is_file()]
    return Exported(
        name=info.name,
        version=info.version,
        digest=info.digest,
        form=form,
        folder=str(target),
        n_files=len(written),
        bytes=sum(path.stat().st_size for path in written),
        registered=made,
    )


def _origin(info: VersionInfo, manifest: Manifest) -> bytes:
    """Say in a file where a folder came from, and what its weights are."""
    said = {
        "schema": "mledit.origin/1",
        "name": info.name,
        "version": info.version,
        "digest": info.digest,
        "content_digest": info.content_digest,
        "base": manifest.base.model_dump(mode="json"),
        "weights": manifest.weights,
    }
    return (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode()
