"""Version edits to models in the MLflow model registry.

The verbs of the command line are functions here, and return objects with the fields that
`--json` prints; they are imported on first use, so that importing this package is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_edit.core.edit import Edit, Probe
    from mlflow_edit.core.edit_batch import EditBatch
    from mlflow_edit.core.gate import Gate
    from mlflow_edit.core.manifest import Manifest
    from mlflow_edit.core.scorecard import Scorecard
    from mlflow_edit.errors import MlflowEditError
    from mlflow_edit.models.edited_model import EditedModel
    from mlflow_edit.operations.apply import apply
    from mlflow_edit.operations.ask import ask
    from mlflow_edit.operations.bisect import bisect
    from mlflow_edit.operations.blame import blame
    from mlflow_edit.operations.cherry_pick import cherry_pick
    from mlflow_edit.operations.conflicts import list_conflicts, resolve_conflict
    from mlflow_edit.operations.demo import demo
    from mlflow_edit.operations.diff import diff
    from mlflow_edit.operations.evaluate import evaluate
    from mlflow_edit.operations.export import export
    from mlflow_edit.operations.gc import gc
    from mlflow_edit.operations.init import init
    from mlflow_edit.operations.inspect import inspect
    from mlflow_edit.operations.load import load
    from mlflow_edit.operations.log import decisions, log
    from mlflow_edit.operations.merge import abort_merge, continue_merge, merge
    from mlflow_edit.operations.promote import promote
    from mlflow_edit.operations.protect import protect
    from mlflow_edit.operations.rebase import rebase
    from mlflow_edit.operations.revert import revert
    from mlflow_edit.operations.rollback import rollback
    from mlflow_edit.operations.show import show
    from mlflow_edit.operations.trace import trace
    from mlflow_edit.operations.verdicts import approve, reject
    from mlflow_edit.operations.verify import verify
    from mlflow_edit.registry.memory_registry import MemoryRegistry
    from mlflow_edit.registry.mlflow_registry import MlflowRegistry

_PLACES = {
    "Edit": "core.edit",
    "EditBatch": "core.edit_batch",
    "EditedModel": "models.edited_model",
    "Gate": "core.gate",
    "Manifest": "core.manifest",
    "MemoryRegistry": "registry.memory_registry",
    "MlflowEditError": "errors",
    "MlflowRegistry": "registry.mlflow_registry",
    "Probe": "core.edit",
    "Scorecard": "core.scorecard",
    "abort_merge": "operations.merge",
    "apply": "operations.apply",
    "approve": "operations.verdicts",
    "ask": "operations.ask",
    "bisect": "operations.bisect",
    "blame": "operations.blame",
    "cherry_pick": "operations.cherry_pick",
    "continue_merge": "operations.merge",
    "decisions": "operations.log",
    "demo": "operations.demo",
    "diff": "operations.diff",
    "evaluate": "operations.evaluate",
    "export": "operations.export",
    "gc": "operations.gc",
    "init": "operations.init",
    "inspect": "operations.inspect",
    "list_conflicts": "operations.conflicts",
    "load": "operations.load",
    "log": "operations.log",
    "merge": "operations.merge",
    "promote": "operations.promote",
    "protect": "operations.protect",
    "rebase": "operations.rebase",
    "reject": "operations.verdicts",
    "resolve_conflict": "operations.conflicts",
    "revert": "operations.revert",
    "rollback": "operations.rollback",
    "show": "operations.show",
    "trace": "operations.trace",
    "verify": "operations.verify",
}

__all__ = [
    "Edit",
    "EditBatch",
    "EditedModel",
    "Gate",
    "Manifest",
    "MemoryRegistry",
    "MlflowEditError",
    "MlflowRegistry",
    "Probe",
    "Scorecard",
    "abort_merge",
    "apply",
    "approve",
    "ask",
    "bisect",
    "blame",
    "cherry_pick",
    "continue_merge",
    "decisions",
    "demo",
    "diff",
    "evaluate",
    "export",
    "gc",
    "init",
    "inspect",
    "list_conflicts",
    "load",
    "log",
    "merge",
    "promote",
    "protect",
    "rebase",
    "reject",
    "resolve_conflict",
    "revert",
    "rollback",
    "show",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
