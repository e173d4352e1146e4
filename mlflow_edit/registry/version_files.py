"""The files of a version, as `mlflow.pyfunc` expects them."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlflow.pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import ParamSchema, ParamSpec

from mlflow_edit.core.manifest import Manifest
from mlflow_edit.registry.names import MANIFEST

FLAVOR = "mledit"
PARAMS = ParamSchema(
    [
        ParamSpec("max_new_tokens", "integer", 128),
        ParamSpec("temperature", "double", 0.0),
        ParamSpec("explain", "boolean", False),
    ]
)


def write_model(
    folder: Path, manifest: Manifest, files: dict[str, bytes], *, model_id: str | None
) -> None:
    """Write the files of a version, `MLmodel` among them, as `mlflow.pyfunc` expects them."""
    for name, data in {**files, MANIFEST: manifest.to_bytes()}.items():
        (folder / name).write_bytes(data)
    torch = version("torch").split("+")[0]
    requirements = [f"mlflow-edit=={_version()}", f"torch>={torch}"]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    model = Model(
        artifact_path="version", model_id=model_id, signature=ModelSignature(params=PARAMS)
    )
    model.add_flavor(
        FLAVOR,
        format=manifest.format,
        digest=manifest.digest,
        content_digest=manifest.content_digest,
        base_model_uri=manifest.base.uri,
        base_digest=manifest.base.digest,
        parents=list(manifest.parents),
    )
    mlflow.pyfunc.add_to_model(
        model,
        loader_module="mlflow_edit.registry.flavor",
        model_config={"base_model_uri": manifest.base.uri, "device": "", "dtype": ""},
        python_env=None,
        conda_env=None,
    )
    model.save(str(folder / "MLmodel"))


def _version() -> str:
    try:
        return version("mlflow-edit")
    except PackageNotFoundError:
        return "0"
