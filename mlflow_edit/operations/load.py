"""Load a version: the base model with its edits attached."""

from collections.abc import Sequence
from typing import Any

from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry


def load(
    ref: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    device_map: Any = None,
    disabled: Sequence[str] = (),
    registry: Registry | None = None,
) -> EditedModel:
    """Load a version as a transformers model and tokenizer.

    Args:
        ref: `NAME@REF`, `models:/NAME/3` or `models:/NAME@alias`.
        device: `cpu`, `cuda:0` …; None takes a GPU where there is one.
        dtype: `float32`, `bfloat16` …; None means float32 on the CPU, else the checkpoint's own.
        device_map: passed to transformers; overrides `device`.
        disabled: ids of edits that are left out, as if they had been reverted.
        registry: where; None takes MLflow's setting.

    Raises:
        VersionNotFound: there is no such version.
        EditNotFound: an edit to be left out is not in it.
        BaseMismatchError, IntegrityError: what is stored is not what was registered.
    """
    from mlflow_edit.registry.flavor import load_edited

    registry = open_registry(registry)
    manifest = registry.manifest(registry.resolve(parse_ref(ref)))
    return load_edited(
        registry,
        manifest,
        device=device,
        dtype=dtype,
        device_map=device_map,
        disabled=frozenset(disabled),
    )
