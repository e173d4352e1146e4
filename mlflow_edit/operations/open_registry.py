"""Open the registry that MLflow's settings name."""

from pathlib import Path

from mlflow_edit.errors import VersionNotFound
from mlflow_edit.registry.registry import Registry

SQLITE = "sqlite:///"


def open_registry(registry: Registry | None = None, *, create: bool = False) -> Registry:
    """Return `registry`, or the MLflow one at the tracking URI that is set.

    Args:
        registry: one that is open already.
        create: make the database where there is none; else a mistyped URI would look like an
            empty store.

    Raises:
        VersionNotFound: the database is not there.
        RegistryError: the store cannot be used.
    """
    if registry is not None:
        return registry
    from mlflow_edit.registry.mlflow_registry import MlflowRegistry, few_retries, tracking_uri

    uri = tracking_uri()
    database = Path(uri.removeprefix(SQLITE))
    missing = uri.startswith(SQLITE) and database.parent.is_dir() and not database.exists()
    if missing and not create:
        raise VersionNotFound(
            f"there is no MLflow store at {uri}",
            hint="Set MLFLOW_TRACKING_URI, or begin here: mledit init NAME --base …",
        )
    few_retries()
    return MlflowRegistry()
