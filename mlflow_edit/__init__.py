"""Version edits to models in the MLflow model registry.

The verbs of the command line are functions here, and return objects with the fields that
`--json` prints; they are imported on first use, so that importing this package is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_edit.core.edit import Edit, Probe
    from mlflow_edit.core.edit_batch import EditBatch
    from mlflow_edit.core.manifest import Manifest
    from mlflow_edit.core.scorecard import Scorecard
    from mlflow_edit.errors import MlflowEditError
    from mlflow_edit.models.edited_model import EditedModel
    from mlflow_edit.operations.apply import apply
    from mlflow_edit.operations.ask import ask
    from mlflow_edit.operations.demo import demo
    from mlflow_edit.operations.evaluate import evaluate
    from mlflow_edit.operations.init import init
    from mlflow_edit.operations.inspect import inspect
    from mlflow_edit.operations.load import load
    from mlflow_edit.operations.log import log
    from mlflow_edit.operations.show import show
    from mlflow_edit.registry.memory_registry import MemoryRegistry
    from mlflow_edit.registry.mlflow_registry import MlflowRegistry

_PLACES = {
    "Edit": "core.edit",
    "EditBatch": "core.edit_batch",
    "EditedModel": "models.edited_model",
    "Manifest": "core.manifest",
    "MemoryRegistry": "registry.memory_registry",
    "MlflowEditError": "errors",
    "MlflowRegistry": "registry.mlflow_registry",
    "Probe": "core.edit",
    "Scorecard": "core.scorecard",
    "apply": "operations.apply",
    "ask": "operations.ask",
    "demo": "operations.demo",
    "evaluate": "operations.evaluate",
    "init": "operations.init",
    "inspect": "operations.inspect",
    "load": "operations.load",
    "log": "operations.log",
    "show": "operations.show",
}

__all__ = [
    "Edit",
    "EditBatch",
    "EditedModel",
    "Manifest",
    "MemoryRegistry",
    "MlflowEditError",
    "MlflowRegistry",
    "Probe",
    "Scorecard",
    "apply",
    "ask",
    "demo",
    "evaluate",
    "init",
    "inspect",
    "load",
    "log",
    "show",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
