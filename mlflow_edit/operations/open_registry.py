"""Open the registry that MLflow's settings name."""

from mlflow_edit.registry.registry import Registry


def open_registry(registry: Registry | None = None) -> Registry:
    """Return `registry`, or the MLflow one at the tracking URI that is set."""
    if registry is not None:
        return registry
    from mlflow_edit.registry.mlflow_registry import MlflowRegistry, few_retries

    few_retries()
    return MlflowRegistry()
