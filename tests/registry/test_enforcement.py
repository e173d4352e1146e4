"""A server whose registry store enforces gates: whichever client asks, a gate is not passed by."""

import shutil
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient
from registry_fixtures import (
    draft_of,
    hand_made_batch,
    keep_tracking_uri,
    new_name,
    root_of,
    scratch,
    template_database,
)
from servers import (
    ADA,
    ADMIN,
    BOB,
    Server,
    Stores,
    log_in,
    required,
    start_auth_server,
    start_server,
)
from servers import stores as stores

from mlflow_edit import approve, promote, protect, rollback, verify
from mlflow_edit.core.gate import Gate
from mlflow_edit.core.ledger import Move, moves_of
from mlflow_edit.core.protection import GATE_TAG, HELD_TAG
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import GateError
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.names import SCORECARD
from mlflow_edit.registry.registry import VersionInfo

GOOD, BAD = 0.9, 0.1
GATE = Gate(min={"retention": 0.5})
Change = Callable[[MlflowClient, str], object]


def versions_of(registry: MlflowRegistry, folder: Path, *scores: float) -> str:
    """Publish a root and a version for each score; return the name of the model."""
    name = new_name("guarded")
    found: list[VersionInfo] = []
    root = root_of(registry, folder, name)
    for i, score in enumerate(scores):
        card = Scorecard(retention=score, n_probes={"retention": 1})
        batch = hand_made_batch(root[1].base.digest, [(f"Where {i}?", "Oslo")])
        draft = draft_of(name, root[1].base, parents=[root], batch=batch, scorecard=card)
        found.append(registry.publish(draft))
    assert [info.version for info in found] == list(range(2, len(scores) + 2))
    return name


def refused(change: Callable[[], object], *said: str) -> None:
    """Check that a client is told 403, why, and what to do."""
    with pytest.raises(MlflowException) as raised:
        change()
    assert raised.value.get_http_status_code() == 403
    for text in ("protected by mledit", "What to do: ", *said):
        assert text in str(raised.value)


def holder(client: MlflowClient, name: str) -> str | None:
    found = client.get_registered_model(name).aliases.get("production")
    return None if found is None else str(found)


GATE_KEY, HELD_KEY = f"{GATE_TAG}production", f"{HELD_TAG}production"
WAYS_ROUND: list[tuple[Change, str]] = [
    (lambda c, n: c.delete_registered_model_alias(n, "production"), "cannot be deleted"),
    (lambda c, n: c.delete_model_version(n, "2"), "it holds the alias production"),
    (lambda c, n: c.delete_model_version(n, "02"), "it holds the alias production"),
    (lambda c, n: c.delete_model_version(n, "1"), "it holds the ledger"),
    (lambda c, n: c.delete_registered_model(n), "cannot be deleted"),
    (lambda c, n: c.rename_registered_model(n, f"{n}-new"), "cannot be renamed"),
    (lambda c, n: c.transition_model_version_stage(n, "3", "Production"), "stage"),
    (lambda c, n: c.set_registered_model_tag(n, GATE_KEY, "{}"), "cannot be changed"),
    (lambda c, n: c.delete_registered_model_tag(n, GATE_KEY), "cannot be changed"),
    (lambda c, n: c.delete_registered_model_tag(n, "mledit.model"), "cannot be changed"),
    (lambda c, n: c.set_model_version_tag(n, "3", "mledit.digest", "0" * 12), "registered as"),
    (lambda c, n: c.set_model_version_tag(n, "3", "mledit.edits", "9"), "registered as"),
    (lambda c, n: c.delete_model_version_tag(n, "3", "mledit.digest"), "cannot be deleted"),
    (lambda c, n: c.set_model_version_tag(n, "3", HELD_KEY, "x"), "by the server alone"),
    (lambda c, n: c.set_model_version_tag(n, "3", "mledit.registered_by", "x"), "alone"),
]


class EnforcementContract:
    """What holds on every database."""

    def test_a_stock_client_cannot_move_the_alias_past_its_gate(
        self, registry: MlflowRegistry, chat_folder: Path
    ) -> None:
        name = versions_of(registry, chat_folder, GOOD, BAD)
        protect(name, "production", gate=GATE, registry=registry)
        client = MlflowClient()
        refused(
            lambda: client.set_registered_model_alias(name, "production", "3"),
            "the last decision in the ledger is another one",
            f"mledit promote {name}@3 --to production",
        )
        with pytest.raises(GateError, match=r"retention >= 0\.5: 0\.1"):
            promote(f"{name}@3", to="production", registry=registry)
        assert holder(client, name) is None
        assert promote(f"{name}@2", to="production", registry=registry).version == 2
        assert holder(client, name) == "2"
        client.set_registered_model_alias(name, "free", "3")  # what is not protected is free

    def test_a_forged_decision_does_not_help(
        self, registry: MlflowRegistry, chat_folder: Path
    ) -> None:
        name = versions_of(registry, chat_folder, GOOD, BAD)
        protect(name, "production", gate=GATE, registry=registry)
        promote(f"{name}@2", to="production", registry=registry)
        digests = [info.digest for info in registry.versions(name)]
        facts = {"alias": "production", "at": "2026-01-02T03:04:05.000000Z", "who": "Eve"}
        client = MlflowClient()
        for kind, why in (("promotion", "retention >= 0.5: 0.1"), ("rollback", "never held")):
            entries = registry.ledger(name)
            nonce = f"forged {kind}"
            forged = Move(kind=kind, to=digests[2], previous=digests[1], nonce=nonce, **facts)
            assert registry.append(name, max(entries) + 1, forged)
            refused(lambda: client.set_registered_model_alias(name, "production", "3"), why)
        mended = verify(name, fix=True, registry=registry)
        assert [p.fixed for p in mended.problems] == [False, False]
        assert "never held the alias" in mended.problems[0].message
        assert holder(client, name) == "2"

    def test_what_the_server_refuses_is_taken_back(
        self, registry: MlflowRegistry, chat_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client that knows of no gate writes a promotion, and takes it back."""
        name = versions_of(registry, chat_folder, GOOD, BAD)
        protect(name, "production", gate=GATE, registry=registry)
        promote(f"{name}@2", to="production", registry=registry)
        monkeypatch.setattr(registry, "gates", lambda name: {})
        with pytest.raises(GateError, match=r"retention >= 0\.5: 0\.1") as raised:
            promote(f"{name}@3", to="production", registry=registry)
        assert raised.value.hint == f"mledit promote {name}@3 --to production"
        moves = moves_of(registry.ledger(name), "production")
        assert [move.kind for move in moves] == ["promotion", "promotion", "rollback"]
        assert moves[-1].to == moves[0].to
        assert "retention >= 0.5" in moves[-1].note
        assert holder(MlflowClient(), name) == "2"

    def test_rolling_back_passes_no_gate(self, registry: MlflowRegistry, chat_folder: Path) -> None:
        name = versions_of(registry, chat_folder, BAD, GOOD)
        promote(f"{name}@2", to="production", registry=registry)  # before there was a gate
        protect(name, "production", gate=GATE, registry=registry)
        promote(f"{name}@3", to="production", registry=registry)
        assert HELD_TAG + "production" in MlflowClient().get_model_version(name, "2").tags
        assert rollback(name, "production", registry=registry).version == 2
        assert holder(MlflowClient(), name) == "2"

    def test_approval_is_what_the_ledger_says(
        self, registry: MlflowRegistry, chat_folder: Path
    ) -> None:
        name = versions_of(registry, chat_folder, GOOD)
        protect(name, "production", gate=Gate(approved=True), registry=registry)
        client = MlflowClient()
        refused(
            lambda: client.set_model_version_tag(name, "2", "mledit.review", "approved"),
            "the ledger does not say so",
            f"mledit approve {name}@2",
        )
        with pytest.raises(GateError, match="approved"):
            promote(f"{name}@2", to="production", registry=registry)
        approve(f"{name}@2", registry=registry)
        assert promote(f"{name}@2", to="production", registry=registry).version == 2

    def test_no_version_is_born_approved(self, registry: MlflowRegistry, chat_folder: Path) -> None:
        """The tag counts as checked by the server: a client may not bring it along."""
        name = versions_of(registry, chat_folder, GOOD)
        protect(name, "production", gate=Gate(approved=True), registry=registry)
        known = registry.versions(name)[1]
        for said, kept in (
            ("approved", {}),
            ("rejected", {}),
            ("queue", {"mledit.review": "queue"}),
        ):
            made = MlflowClient().create_model_version(
                name,
                f"models:/{known.model_id}",
                run_id=known.run_id,
                model_id=known.model_id,
                tags={"mledit.review": said},
            )
            assert made.tags == kept

    def test_a_scorecard_that_was_changed_does_not_pass(
        self, registry: MlflowRegistry, chat_folder: Path, tmp_path: Path
    ) -> None:
        name = versions_of(registry, chat_folder, BAD)
        protect(name, "production", gate=GATE, registry=registry)
        info = registry.versions(name)[1]
        (tmp_path / SCORECARD).write_bytes(Scorecard(retention=GOOD).to_bytes())
        client = MlflowClient()
        client.log_model_artifacts(info.model_id, str(tmp_path))
        entry = Move(
            kind="promotion", alias="production", to=info.digest, who="Eve", nonce="12345678",
            at="2026-01-02T03:04:05.000000Z",
        )  # fmt: skip
        assert registry.append(name, 1, entry)
        refused(lambda: client.set_registered_model_alias(name, "production", "2"), "digest")

    def test_there_is_no_way_round(self, registry: MlflowRegistry, chat_folder: Path) -> None:
        name = versions_of(registry, chat_folder, GOOD, BAD)
        protect(name, "production", gate=GATE, registry=registry)
        promote(f"{name}@2", to="production", registry=registry)
        client = MlflowClient()
        before = client.get_registered_model(name), client.get_model_version(name, "3").tags
        for change, said in WAYS_ROUND:
            refused(partial(change, client, name), said)
        after = client.get_registered_model(name), client.get_model_version(name, "3").tags
        assert (after[0].aliases, after[0].tags) == (before[0].aliases, before[0].tags)
        assert after[1] == before[1]

    def test_a_copied_version_brings_no_right_to_the_alias(
        self, registry: MlflowRegistry, chat_folder: Path
    ) -> None:
        name = versions_of(registry, chat_folder, BAD, GOOD)
        promote(f"{name}@2", to="production", registry=registry)
        protect(name, "production", gate=GATE, registry=registry)
        promote(f"{name}@3", to="production", registry=registry)
        made = MlflowClient().copy_model_version(f"models:/{name}/2", new_name("copied"))
        assert HELD_TAG + "production" not in made.tags

    def test_the_stage_follows_the_alias(self, registry: MlflowRegistry, chat_folder: Path) -> None:
        name = versions_of(registry, chat_folder, GOOD, GOOD)
        protect(name, "production", gate=GATE, registry=registry)
        protect(name, "staging", gate=GATE, registry=registry)
        for version in (2, 3):
            for alias in ("staging", "production"):
                promote(f"{name}@{version}", to=alias, stages=True, registry=registry)
        client = MlflowClient()
        stages = [client.get_model_version(name, str(n)).current_stage for n in (2, 3)]
        assert stages == ["Archived", "Production"]
        for spelled in ("3", "03"):
            refused(
                lambda n=spelled: client.transition_model_version_stage(name, n, "Archived"),
                "stage",
            )

    def test_a_gate_that_cannot_be_read_is_refused(
        self, registry: MlflowRegistry, chat_folder: Path
    ) -> None:
        name = versions_of(registry, chat_folder)
        for text in ("{min: {retention: high}}", f"{{min: {{retention: 1}}}} {'#' * 4000}"):
            with pytest.raises(MlflowException, match="INVALID_PARAMETER_VALUE") as raised:
                MlflowClient().set_registered_model_tag(name, f"{GATE_TAG}production", text)
            assert raised.value.get_http_status_code() == 400

    def test_a_version_that_is_not_ours_is_refused(
        self, registry: MlflowRegistry, chat_folder: Path
    ) -> None:
        name = versions_of(registry, chat_folder)
        protect(name, "production", gate=Gate(), registry=registry)
        client = MlflowClient()
        experiment = client.get_run(registry.versions(name)[0].run_id).info.experiment_id
        model = client.create_logged_model(experiment, name="stranger")
        client.create_model_version(name, f"models:/{model.model_id}", model_id=model.model_id)
        refused(
            lambda: client.set_registered_model_alias(name, "production", "2"),
            "is not a version of an edited model",
        )


def enforcing(database: str) -> list[str]:
    """Return the options of a server over a database, with gates enforced."""
    return ["--backend-store-uri", database, "--registry-store-uri", f"mledit+{database}"]


@pytest.fixture(scope="module")
def sqlite_server() -> Server:
    folder = scratch() / "enforcing-server"
    folder.mkdir()
    database = shutil.copy(template_database(), folder / "server.db")
    artifacts = ["--artifacts-destination", str(folder / "artifacts")]
    return start_server(folder, stores=[*enforcing(f"sqlite:///{database}"), *artifacts])


class TestOnSqlite(EnforcementContract):
    """Clients reach artifacts through the server, and the server its own folder."""

    @pytest.fixture
    def registry(self, sqlite_server: Server, monkeypatch: pytest.MonkeyPatch) -> MlflowRegistry:
        keep_tracking_uri(monkeypatch, sqlite_server.uri)
        return MlflowRegistry(sqlite_server.uri)


@pytest.fixture(scope="module")
def postgres_server(stores: Stores) -> Server:
    folder = scratch() / "enforcing-postgres"
    root = ["--default-artifact-root", stores.environment["_MLFLOW_SERVER_ARTIFACT_ROOT"]]
    environment = {k: v for k, v in stores.environment.items() if not k.startswith("_")}
    return start_server(
        folder,
        stores=[*enforcing(stores.database), *root, "--no-serve-artifacts"],
        environment=environment,
    )


@pytest.mark.servers
class TestOnPostgres(EnforcementContract):
    """Clients and server both reach artifacts on S3."""

    @pytest.fixture
    def registry(
        self, postgres_server: Server, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> MlflowRegistry:
        for variable, value in stores.environment.items():
            if not variable.startswith("_"):
                monkeypatch.setenv(variable, value)
        keep_tracking_uri(monkeypatch, postgres_server.uri)
        return MlflowRegistry(postgres_server.uri)


def test_the_store_is_found_by_its_scheme() -> None:
    found = entry_points(group="mlflow.model_registry_store")
    assert {"mledit+sqlite", "mledit+postgresql"} <= {one.name for one in found}


@pytest.fixture(scope="module")
def users_server() -> Server:
    folder = scratch() / "enforcing-users"
    artifacts = ["--artifacts-destination", str(folder / "artifacts")]
    options = [*enforcing(f"sqlite:///{folder / 'server.db'}"), *artifacts]
    return required(lambda: start_auth_server(folder, "basic-auth", stores=options))


@pytest.mark.servers
class TestWithUsers:
    """The server knows who asks."""

    @pytest.fixture
    def name(self, users_server: Server, chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """A model of Ada's, which Bob may edit and not manage."""
        log_in(monkeypatch, *ADA)
        keep_tracking_uri(monkeypatch, users_server.uri)
        registry = MlflowRegistry(users_server.uri)
        name = versions_of(registry, chat_folder, GOOD)
        protect(name, "production", gate=Gate(approved=True), registry=registry)
        experiment = registry.versions(name)[0].experiment_id
        log_in(monkeypatch, *ADMIN)
        administrator = AuthServiceClient(users_server.uri)
        administrator.grant_user_permission(BOB[0], "registered_model", name, "EDIT")
        administrator.grant_user_permission(BOB[0], "experiment", experiment, "EDIT")
        log_in(monkeypatch, *ADA)
        return name

    def test_nobody_approves_what_they_registered(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert MlflowClient().get_model_version(name, "2").tags["mledit.registered_by"] == "ada"
        with pytest.raises(GateError, match="ada registered it"):
            approve(f"{name}@2", author="Grace Hopper")  # the ledger takes a name on trust
        with pytest.raises(GateError, match="approved"):
            promote(f"{name}@2", to="production")
        log_in(monkeypatch, *BOB)
        approve(f"{name}@2")
        log_in(monkeypatch, *ADA)
        assert promote(f"{name}@2", to="production").version == 2

    def test_only_who_may_manage_the_model_changes_its_gate(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_in(monkeypatch, *BOB)
        for attempt in (
            partial(protect, name, "production", gate=Gate()),
            partial(protect, name, "production", off=True),
        ):
            with pytest.raises(GateError, match="cannot be changed") as raised:
                attempt()
            assert "a user who may manage the model" in str(raised.value.hint)
        protect(name, "staging", gate=Gate())  # whoever may edit it may protect more
        log_in(monkeypatch, *ADA)
        assert set(protect(name, "production", off=True).gates) == {"staging"}
        log_in(monkeypatch, *ADMIN)
        assert protect(name, "staging", off=True).gates == {}
