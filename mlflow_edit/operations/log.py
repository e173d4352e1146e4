"""The history of a model."""

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.version_view import VersionView, view
from mlflow_edit.registry.names import model_name
from mlflow_edit.registry.registry import Registry, heads


class History(FrozenModel):
    """The versions of a model, newest first, and the ones that nothing was built on."""

    name: str
    versions: tuple[VersionView, ...]
    heads: tuple[int, ...]


def log(name: str, *, registry: Registry | None = None) -> History:
    """List the versions of a model, newest first. No artifact is read.

    Raises:
        VersionNotFound: there is no such model.
    """
    versions = open_registry(registry).versions(model_name(name))
    return History(
        name=name,
        versions=tuple(view(info) for info in reversed(versions)),
        heads=tuple(info.version for info in heads(versions)),
    )
