"""The laws of registries on the servers that teams run: PostgreSQL, S3, and one with users."""

from collections.abc import Callable
from pathlib import Path

import pytest
from registry_fixtures import draft_of, hand_made_batch, keep_tracking_uri, new_name, root_of
from servers import ADA, BOB, SECRET, Server, Stores, log_in
from servers import auth_server as auth_server
from servers import stores as stores

from mlflow_edit.errors import RegistryError
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.names import batch_path
from mlflow_edit.registry.registry import Registry
from registry.contract import MlflowContract

pytestmark = pytest.mark.servers


class TestPostgresAndS3(MlflowContract):
    """The client opens the database, and brings artifacts to S3 itself."""

    @pytest.fixture
    def registry(self, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Registry:
        self.stores = stores
        for variable, value in stores.environment.items():
            monkeypatch.setenv(variable, value)
        keep_tracking_uri(monkeypatch, stores.database)
        return MlflowRegistry(stores.database)

    def n_stored(self, registry: Registry, digest: str) -> int:
        name = f"/{batch_path(digest)}/batch.json"
        return len([key for key in self.stores.object_keys() if key.endswith(name)])

    def test_artifacts_are_in_the_bucket(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        info, _ = root_of(registry, chat_folder, name)
        assert any(
            info.model_id in key and "manifest.json" in key for key in self.stores.object_keys()
        )


class TestServerWithUsers(MlflowContract):
    """Ada's client knows a name and a password, and no store.

    Such a server does not tell what does not exist from what Ada may not see.
    """

    not_there = RegistryError

    @pytest.fixture
    def registry(self, auth_server: Server, monkeypatch: pytest.MonkeyPatch) -> Registry:
        self.server = auth_server
        log_in(monkeypatch, *ADA)
        keep_tracking_uri(monkeypatch, auth_server.uri)
        return MlflowRegistry(auth_server.uri)

    def become_reviewer(self, queue_id: str) -> None:
        from mlflow.genai.review_queues import update_review_queue

        update_review_queue(queue_id, users=[ADA[0]])

    def n_stored(self, registry: Registry, digest: str) -> int:
        return len([path for path in self.server.artifacts.rglob(digest) if path.is_dir()])

    def test_somebody_else_reads_and_changes_nothing(
        self, registry: Registry, chat_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = root_of(registry, chat_folder, name)
        batch = hand_made_batch(root[1].base.digest, [("Where?", "Oslo")])
        made = registry.publish(draft_of(name, root[1].base, parents=[root], batch=batch))
        log_in(monkeypatch, *BOB)
        bobs = MlflowRegistry(self.server.uri)
        assert bobs.versions(name) == [root[0], made]
        manifest = bobs.manifest(made)
        assert bobs.stored_batch(manifest.batches[0]).files() == batch.files()
        attempts: list[Callable[[], object]] = [
            lambda: bobs.publish(draft_of(name, root[1].base, parents=[root])),
            lambda: bobs.set_alias(name, "champion", 1),
            lambda: bobs.tag(made, "mledit.approval", "approved"),
        ]
        for attempt in attempts:
            with pytest.raises(RegistryError, match="Permission denied") as raised:
                attempt()
            assert "you may not" in str(raised.value.hint)
        assert bobs.versions(name) == [root[0], made]

    def test_a_wrong_password_is_said(
        self, registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_in(monkeypatch, ADA[0], "wrong password")
        with pytest.raises(RegistryError, match="401") as raised:
            MlflowRegistry(self.server.uri).versions(name)
        assert "MLFLOW_TRACKING_PASSWORD" in str(raised.value.hint)
        assert "wrong password" not in f"{raised.value} {raised.value.hint}"


def test_the_password_of_a_database_is_not_said(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_tracking_uri(monkeypatch, stores.database)
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)
    nowhere = stores.database.replace(":" + stores.database.rsplit(":", 1)[1], ":1/postgres")
    with pytest.raises(RegistryError) as raised:
        MlflowRegistry(nowhere).versions(new_name())
    assert SECRET not in f"{raised.value} {raised.value.hint}"
    assert "mledit:***@127.0.0.1:1/postgres" in str(raised.value)
