"""The laws that every registry obeys: subclass and give the fixture `registry`."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from registry_fixtures import draft_of, hand_made_batch, new_name, root_of

from mlflow_edit.core.manifest import BaseRef, Exclusion
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import InvalidInputError, MlflowEditError, VersionNotFound
from mlflow_edit.models.base_digest import base_digest
from mlflow_edit.models.base_model import find_base
from mlflow_edit.registry.names import RESULTS, parse_ref
from mlflow_edit.registry.registry import Registry, heads


class RegistryContract:
    """What is published is visible whole, never changes, and is stored once."""

    @pytest.fixture
    def name(self) -> str:
        return new_name("contract")

    def test_an_unknown_model_is_not_found(self, registry: Registry, name: str) -> None:
        with pytest.raises(VersionNotFound):
            registry.versions(name)

    def test_a_model_without_versions_has_none(self, registry: Registry, name: str) -> None:
        registry.create_model(name)
        registry.create_model(name)
        with pytest.raises(VersionNotFound):
            registry.resolve(parse_ref(name))

    @pytest.mark.parametrize("bad", ["", "a b", "a/b", "a@b", "..", "x" * 121, "a\n", "tab\t"])
    def test_a_bad_name_is_refused(self, registry: Registry, bad: str) -> None:
        with pytest.raises(InvalidInputError):
            registry.create_model(bad)

    def test_a_base_is_stored_once_and_comes_back(
        self, registry: Registry, chat_folder: Path
    ) -> None:
        digest = base_digest(chat_folder, chat_folder)
        said: list[str] = []
        first = registry.add_base(chat_folder, digest=digest, source="x", advance=said.append)
        again = registry.add_base(chat_folder, digest=digest, source="x", advance=said.append)
        assert first == again == BaseRef(digest=digest, uri=first.uri, source="x")
        folders = find_base(registry.base_folder(first))
        assert base_digest(folders.weights, folders.tokenizer) == digest
        uri, folder = registry.find_base(first.uri)
        assert uri == first.uri
        assert find_base(folder).weights.is_dir()

    def test_an_unknown_base_is_not_found(self, registry: Registry) -> None:
        with pytest.raises(VersionNotFound):
            registry.find_base("models:/m-00000000000000000000000000000000")

    def test_what_is_published_is_read_back(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        batch = hand_made_batch(root[1].base.digest, [("Where?", "Oslo"), ("Who?", "Ada")])
        card = Scorecard(reliability=1.0, locality=0.25, n_probes={"reliability": 2})
        drop = Exclusion(batch=batch.record.digest, edit="e1", reason="reverted")
        made = registry.publish(
            draft_of(
                name, root[1].base, parents=[root], batch=batch, exclusions=[drop], scorecard=card,
                message="über <b>\n\n| all |", documents=lambda manifest: {RESULTS: b'{"data":[]}'},
            )
        )  # fmt: skip
        found = registry.versions(name)
        assert found == [root[0], made]
        assert registry.resolve(parse_ref(name)) == made
        assert (made.version, made.name, made.message) == (2, name, "über <b>\n\n| all |")
        assert (made.parents, made.n_edits, made.n_batches) == ((root[0].digest,), 1, 1)
        assert made.author == "Ada <ada@example.org>"
        assert {m: made.metrics[m] for m in ("reliability", "locality")} == card.metrics()
        manifest = registry.manifest(made)
        assert (manifest.digest, manifest.content_digest) == (made.digest, made.content_digest)
        assert manifest.exclusions == (drop,)
        assert registry.scorecard(made, manifest) == card
        stored = registry.batch(manifest.batches[0])
        assert stored.files() == batch.files()
        assert registry.document(made, RESULTS) == b'{"data":[]}'
        assert registry.document(made, "no-such.html") is None
        assert name in registry.models()

    def test_two_writers_on_one_parent_fork(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        base = root[1].base
        failed: list[BaseException] = []

        def write(seed: int) -> None:
            batch = hand_made_batch(base.digest, [("Where?", f"Oslo {seed}")], seed=seed)
            try:
                registry.publish(draft_of(name, base, parents=[root], batch=batch))
            except BaseException as error:  # noqa: BLE001 — a thread's error would vanish
                failed.append(error)

        writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert failed == []
        versions = registry.versions(name)
        assert [v.version for v in versions] == [1, 2, 3, 4]
        assert [v.parents for v in versions[1:]] == [(root[0].digest,)] * 3
        assert len({v.digest for v in versions}) == 4
        assert heads(versions) == versions[1:]
        for version in versions:
            for ref in registry.manifest(version).batches:
                registry.batch(ref)

    def test_a_batch_is_stored_once(self, registry: Registry, chat_folder: Path, name: str) -> None:
        root = root_of(registry, chat_folder, name)
        batch = hand_made_batch(root[1].base.digest, [("Where?", "Oslo")], seed=name.__hash__())
        first = registry.publish(draft_of(name, root[1].base, parents=[root], batch=batch))
        fork = registry.publish(
            draft_of(name, root[1].base, parents=[root], batch=batch, message="again")
        )
        child = registry.publish(
            draft_of(name, root[1].base, parents=[(first, registry.manifest(first))])
        )
        refs = [registry.manifest(v).batches for v in (first, fork, child)]
        assert refs[0] == refs[2]
        assert [r.digest for r in refs[1]] == [batch.record.digest]
        assert fork.content_digest == first.content_digest != root[0].content_digest
        assert self.n_stored(registry, batch.record.digest) == 1

    def n_stored(self, registry: Registry, digest: str) -> int:
        """Count the copies of a batch in the store."""
        raise NotImplementedError

    @pytest.mark.parametrize(
        ("part", "error"),
        [
            ("manifest", MlflowEditError("broken")),
            ("documents", KeyboardInterrupt()),
            ("description", MlflowEditError("broken")),
        ],
    )
    def test_a_draft_that_fails_leaves_no_version(
        self,
        registry: Registry,
        chat_folder: Path,
        name: str,
        part: str,
        error: BaseException,
    ) -> None:
        root = root_of(registry, chat_folder, name)
        batch = hand_made_batch(root[1].base.digest, [("Where?", "Oslo")])
        draft = draft_of(name, root[1].base, parents=[root], batch=batch)

        def fail(_: object) -> None:
            raise error

        with pytest.raises(type(error)):
            registry.publish(replace(draft, **{part: fail}))
        assert registry.versions(name) == [root[0]]
        made = registry.publish(draft)
        assert registry.versions(name) == [root[0], made]

    def test_publishing_without_a_model_is_not_found(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        base = root_of(registry, chat_folder, new_name())[1].base
        with pytest.raises(VersionNotFound):
            registry.publish(draft_of(name, base))

    def test_an_evaluation_changes_no_version(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        card = Scorecard(reliability=0.125, n_probes={"reliability": 8})
        runs = {registry.record_evaluation(root[0], card, {RESULTS: b"{}"}) for _ in range(2)}
        assert len(runs) == 2
        assert root[0].run_id not in runs
        assert registry.versions(name) == [root[0]]
        assert registry.scorecard(*root) != card

    def test_a_batch_that_is_not_there_is_an_integrity_error(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        batch = hand_made_batch(root[1].base.digest, [("Where?", "Oslo")], seed=99)
        with pytest.raises(MlflowEditError) as raised:
            registry.batch(batch.reference(root[0].run_id))
        assert raised.value.exit_code == 4
