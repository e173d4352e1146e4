"""Every registry obeys the same laws."""

from pathlib import Path

import pytest
from registry_fixtures import keep_tracking_uri
from servers import Server

from mlflow_edit.registry.memory_registry import MemoryRegistry
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.registry import Registry
from registry.contract import MlflowContract, RegistryContract


class TestMemoryRegistry(RegistryContract):
    left_behind = {"batch"}

    @pytest.fixture
    def registry(self) -> Registry:
        return MemoryRegistry()

    def n_stored(self, registry: Registry, digest: str) -> int:
        assert isinstance(registry, MemoryRegistry)
        return sum(key == digest for key in registry.files)


class TestMlflowOnSqlite(MlflowContract):
    @pytest.fixture
    def registry(self, sqlite_registry: MlflowRegistry) -> Registry:
        return sqlite_registry

    def n_stored(self, registry: Registry, digest: str) -> int:
        return len([path for path in Path("mlruns").rglob(digest) if path.is_dir()])


class TestMlflowServer(MlflowContract):
    @pytest.fixture
    def registry(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> Registry:
        self.server = server
        keep_tracking_uri(monkeypatch, server.uri)
        return MlflowRegistry(server.uri)

    def n_stored(self, registry: Registry, digest: str) -> int:
        return len([path for path in self.server.artifacts.rglob(digest) if path.is_dir()])
