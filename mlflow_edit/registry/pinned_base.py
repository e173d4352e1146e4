"""Load the base model that a version pins, verified against its digest."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mlflow_edit.core.manifest import BaseRef
from mlflow_edit.errors import BaseMismatchError, IntegrityError
from mlflow_edit.models.base_model import BaseModel, load_base
from mlflow_edit.models.cache import cache_folder
from mlflow_edit.models.encoder import (
    SentenceEncoder,
    find_encoder,
    released_encoder,
    released_folder,
)
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.patch import Patch
from mlflow_edit.registry.kept_bases import kept_bases
from mlflow_edit.registry.registry import Registry


class BaseSource(Protocol):
    """Where base models are: a registry, or an exported version."""

    def base_folder(self, base: BaseRef) -> Path:
        """Return a local copy of a base model."""

    def forget_base(self, base: BaseRef) -> None:
        """Drop whatever copy of a base model is kept outside of the store."""

    def encoder_folder(self, digest: str) -> Path | None:
        """Return a local copy of a stored sentence encoder, None where there is none."""


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

    Where base models are kept in memory (see `kept_bases`) it is loaded, and verified, once.

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

    def load() -> BaseModel:
        return load_base(
            folder or registry.base_folder(base),
            digest=base.digest,
            device=device,
            dtype=dtype,
            device_map=device_map,
        )

    kept = kept_bases() if folder is None and device_map is None else None
    try:
        loaded = kept.take((base.digest, device, dtype), load) if kept else load()
        return replace(loaded, encoders=lambda digest: pinned_encoder(registry, digest))
    except (BaseMismatchError, IntegrityError):
        if folder is None:
            registry.forget_base(base)
        raise


def pinned_encoder(registry: BaseSource, digest: str) -> SentenceEncoder:
    """Return the sentence encoder of that digest, from where the versions are if it is there.

    Raises:
        UnsupportedFormat: it is not stored, and this release has another.
        DigestMismatch: what is stored is damaged.
    """
    return find_encoder(digest, registry.encoder_folder)


def keep_encoder(registry: Registry, patch: Patch, advance: Callable[[str], None]) -> None:
    """Store the encoder that a patch needs, unless it is there: versions must load without us."""
    if not isinstance(patch, EncoderCodebook) or registry.encoder_folder(patch.encoder) is not None:
        return
    folder = released_folder(cache_folder())
    if released_encoder().digest == patch.encoder:
        advance("storing the sentence encoder in MLflow (once)")
        registry.add_base(
            folder, digest=patch.encoder, source="sentence encoder", advance=lambda said: None
        )
