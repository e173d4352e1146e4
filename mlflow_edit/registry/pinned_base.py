"""Load the base model that a version pins, verified against its digest."""

from pathlib import Path
from typing import Any, Protocol

from mlflow_edit.core.manifest import BaseRef
from mlflow_edit.errors import BaseMismatchError, IntegrityError
from mlflow_edit.models.base_model import BaseModel, load_base


class BaseSource(Protocol):
    """Where base models are: a registry, or an exported version."""

    def base_folder(self, base: BaseRef) -> Path:
        """Return a local copy of a base model."""

    def forget_base(self, base: BaseRef) -> None:
        """Drop whatever copy of a base model is kept outside of the store."""


def load_pinned(
    registry: BaseSource,
    base: BaseRef,
    *,
    folder: Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    device_map: Any = None,
) -> BaseModel:
    """Load a base model from a registry; a cached copy that proves damaged is dropped.

    Args:
        registry: where it is stored.
        base: what the manifest says of it.
        folder: a copy to take instead; its digest must be the same.
        device: as `load_base`.
        dtype: as `load_base`.
        device_map: as `load_base`.

    Raises:
        BaseMismatchError: it is not the model that the manifest names.
        IntegrityError: a file of it is damaged.
    """
    try:
        return load_base(
            folder or registry.base_folder(base),
            digest=base.digest,
            device=device,
            dtype=dtype,
            device_map=device_map,
        )
    except (BaseMismatchError, IntegrityError):
        if folder is None:
            registry.forget_base(base)
        raise
