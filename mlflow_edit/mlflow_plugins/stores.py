"""Registry stores by the scheme of their URI: `mledit+sqlite`, `mledit+postgresql`."""

from typing import Any


def registry_store(store_uri: str) -> Any:
    """Open a registry store that enforces gates (see `registry.enforcing_store`)."""
    from mlflow_edit.registry.enforcing_store import enforcing_store

    return enforcing_store(store_uri)
