"""A crash in revert, merge, promote or rollback leaves the old state or the new one, everywhere."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from registry_fixtures import draft_of, hand_made_batch, root_of

from mlflow_edit import gc, merge, promote, revert, rollback, verify
from mlflow_edit.registry.mlflow_registry import MlflowRegistry

VERBS: dict[str, Callable[[MlflowRegistry], object]] = {
    "revert": lambda r: revert("m@2", ["e0"], measured=False, author="Ada", registry=r),
    "merge": lambda r: merge("m@2", "m@3", measured=False, author="Ada", registry=r),
    "promote": lambda r: promote("m@3", to="prod", author="Ada", registry=r),
    "rollback": lambda r: rollback("m", "prod", author="Ada", registry=r),
}
WRITES = ("create_", "log_", "set_", "finalize_", "delete_", "transition_", "update_", "restore_")


class Killed(BaseException):
    """The process is gone: no call of it reaches the store any more."""


@dataclass
class Kills:
    """Kills the process before or after its k-th write; reading changes nothing."""

    client: MlflowClient
    kill_at: int
    after: bool
    n_writes: int = 0
    dead: bool = False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.client, name)
        if not callable(value) or name.startswith("_"):
            return value

        def call(*args: Any, **options: Any) -> Any:
            if self.dead:
                raise Killed
            writes = name.startswith(WRITES)
            if writes and self.n_writes == self.kill_at and not self.after:
                self.dead = True
                raise Killed
            result = value(*args, **options)
            if writes and self.n_writes == self.kill_at:
                self.dead = True
                raise Killed
            self.n_writes += writes
            return result

        return call


@pytest.fixture
def store(sqlite_registry: MlflowRegistry, chat_folder: Path) -> MlflowRegistry:
    root = root_of(sqlite_registry, chat_folder, "m")
    for seed in range(2):
        batch = hand_made_batch(root[1].base.digest, [(f"Q{seed}?", "x"), (f"R{seed}?", "y")],
                                seed=seed)  # fmt: skip
        sqlite_registry.publish(draft_of("m", root[1].base, parents=[root], batch=batch))
    promote("m@1", to="prod", author="Ada", registry=sqlite_registry)
    promote("m@2", to="prod", author="Ada", registry=sqlite_registry)
    return sqlite_registry


def state(registry: MlflowRegistry) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], int]:
    """Return what users see: versions with their contents and aliases, and decisions."""
    found = [(v.content_digest, v.aliases) for v in registry.versions("m")]
    return tuple(found), len(registry.ledger("m"))


@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_every_write(store: MlflowRegistry, verb: str) -> None:
    client = store.client
    changed: list[bool] = []
    for step in itertools.count():
        for after in (False, True):
            old = state(store)
            kills = Kills(client, step, after)
            use(store, kills)
            with suppress(Killed):
                VERBS[verb](store)
            use(store, client)
            now = state(store)
            changed.append(now != old)
            where = f"{verb}, {'after' if after else 'before'} write {step}"
            found = verify("m", registry=store)
            assert all(p.fixable for p in found.problems), (where, found.problems)
            if not found.ok:  # an alias behind its ledger, or a finished version not closed
                assert verify("m", fix=True, registry=store).ok, where
            back_to_two(store)
        if not kills.dead:
            break
    assert step >= (2 if verb in ("promote", "rollback") else 8)
    assert set(changed) == {True, False}
    assert verify("m", registry=store).ok
    gc("m", older_than=0, dry_run=False, registry=store)
    assert verify("m", registry=store).orphans == ()


def use(store: MlflowRegistry, client: Any) -> None:
    store.client = client
    store._bases._client = client


def back_to_two(store: MlflowRegistry) -> None:
    """Let version 2 hold the alias over version 1, so that every round begins alike."""
    if [v.version for v in store.versions("m") if "prod" in v.aliases] != [2]:
        promote("m@1", to="prod", author="Ada", registry=store)
        promote("m@2", to="prod", author="Ada", registry=store)


def test_rollback_past_a_version_that_was_deleted(store: MlflowRegistry) -> None:
    promote("m@3", to="prod", author="Ada", registry=store)
    store.client.delete_model_version("m", "2")
    assert rollback("m", "prod", author="Ada", registry=store).version == 1
    assert [v.version for v in store.versions("m") if "prod" in v.aliases] == [1]


def test_gc_keeps_the_run_of_a_batch_whose_version_was_deleted(store: MlflowRegistry) -> None:
    made = revert("m@2", ["e0"], measured=False, author="Ada", registry=store)
    promote(f"m@{made.version}", to="prod", author="Ada", registry=store)
    store.client.delete_model_version("m", "2")
    gc("m", older_than=0, dry_run=False, registry=store)
    manifest = store.manifest(store.versions("m")[-1])
    assert store.stored_batch(manifest.batches[0]).edits


def test_gc_goes_by_when_a_run_was_made_not_by_when_its_work_began(store: MlflowRegistry) -> None:
    from dataclasses import replace
    from time import time

    root = store.versions("m")[0]
    manifest = store.manifest(root)
    batch = hand_made_batch(manifest.base.digest, [("Q?", "x")], seed=9)
    draft = draft_of("m", manifest.base, parents=[(root, manifest)], batch=batch)

    def look(info: Any) -> str:
        assert gc("m", dry_run=False, registry=store).orphans == ()
        return ""

    made = store.publish(replace(draft, started_at=time() - 7200, description=look))
    assert store.stored_batch(store.manifest(made).batches[0]).edits


def test_a_registered_model_that_was_there_is_seen(
    sqlite_registry: MlflowRegistry, chat_folder: Path
) -> None:
    sqlite_registry.client.create_registered_model("pre")
    root_of(sqlite_registry, chat_folder, "pre")
    assert sqlite_registry.models() == ["pre"]


def test_a_strange_parameter_is_no_entry(store: MlflowRegistry) -> None:
    run_id = store.versions("m")[0].run_id
    before = store.ledger("m")
    for key in ("mledit.ledger.\u00b2", "mledit.ledger.1", "mledit.ledger.x"):
        try:
            store.client.log_param(run_id, key, "x")
        except Exception:  # noqa: BLE001 — this MLflow refuses the name itself
            continue
    assert store.ledger("m") == before
