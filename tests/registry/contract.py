"""The laws that every registry obeys: subclass and give the fixture `registry`."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import CREATED, draft_of, hand_made_batch, new_name, root_of

from mlflow_edit.core.approval import Answered, Question
from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.ledger import Entry, Verdict
from mlflow_edit.core.manifest import BaseRef, BatchRef, Exclusion, Manifest
from mlflow_edit.core.results import Provenance
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError, InvalidInputError, MlflowEditError, VersionNotFound
from mlflow_edit.models.base_digest import base_digest
from mlflow_edit.models.base_files import find_base
from mlflow_edit.patches.format import write_patch
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.mlflow_versions import logged_models
from mlflow_edit.registry.names import PATCH, RESULTS, experiment_name, parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo, heads
from mlflow_edit.registry.stored_batch import StoredBatch

N_WRITERS = 8


def verdict(version: str, note: str = "") -> Verdict:
    """Make an entry of the ledger."""
    return Verdict(
        kind="approved",
        at=CREATED,
        who="Ada",
        note=note,
        nonce=secrets.token_hex(8),
        version=version,
    )


def question(name: str, number: int) -> Question:
    """Make a question, the same for the same number and model: a server knows all by their ids."""
    text = f"über | <b> *{number}* \u202e\n\nand more"
    return Question(json_digest([name, number])[:32], f"e{number}", text, text)


def set_feedback(question_id: str, who: str, value: object, *, kind: str = "HUMAN") -> None:
    """Answer as a reviewer does in the pages of MLflow, or as a judge does."""
    import mlflow
    from mlflow.entities import AssessmentSource

    source = AssessmentSource(source_type=kind, source_id=who)
    mlflow.log_feedback(
        trace_id=f"tr-{question_id}", name="approve_edit", value=value, source=source
    )


def answer_in_queue(
    queue_id: str, question_id: str, *, complete: bool = True, **answers: bool
) -> None:
    """Answer a question for some reviewers, and mark it complete, which MLflow keeps apart."""
    from mlflow.genai.review_queues import set_review_queue_item_status

    for who, value in answers.items():
        set_feedback(question_id, who, value)
    if complete:
        set_review_queue_item_status(
            queue_id,
            item_id=f"tr-{question_id}",
            status="complete",
            completed_by=next(iter(answers)),
        )


def in_threads(n: int, work: Callable[[int], None]) -> None:
    """Call `work` in threads that begin at once; none may fail."""
    failed: list[BaseException] = []
    start = threading.Barrier(n)

    def run(i: int) -> None:
        try:
            start.wait()
            work(i)
        except BaseException as error:  # noqa: BLE001 — a thread's error would vanish
            failed.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


class RegistryContract:
    """What is published is visible whole, never changes, and is stored once."""

    not_there: type[MlflowEditError] = VersionNotFound

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
        with pytest.raises(self.not_there):
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
        with pytest.raises(self.not_there):
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

    # The parts of a batch

    def published_batch(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> tuple[StoredBatch, BatchRef]:
        root = root_of(registry, chat_folder, name)
        batch = hand_made_batch(
            root[1].base.digest, [("Where?", "Oslo"), ("Who?", name)], seed=secrets.randbits(32)
        )
        made = registry.publish(draft_of(name, root[1].base, parents=[root], batch=batch))
        return batch, registry.manifest(made).batches[0]

    def test_the_parts_of_a_batch_are_read_back(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        batch, ref = self.published_batch(registry, chat_folder, name)
        for _ in range(2):  # from the store, then from a cache, if there is one
            assert registry.edits(ref) == batch.edits
            assert write_patch(registry.patch(ref)) == batch.files()[PATCH]
            assert registry.batch(ref).files() == batch.files()
            assert registry.stored_batch(ref).files() == batch.files()

    def test_a_reference_that_says_something_else_is_refused(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        _, ref = self.published_batch(registry, chat_folder, name)
        changes: list[dict[str, object]] = [
            {"editor": "rome"}, {"kind": "delta"}, {"n_edits": 3}, {"digest": "0" * 64},
        ]  # fmt: skip
        for change in changes:
            other = ref.model_copy(update=change)
            for read in (registry.edits, registry.patch, registry.batch, registry.stored_batch):
                with pytest.raises(IntegrityError):
                    read(other)
        registry.batch(ref)

    def test_where_edits_came_from_is_kept(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        assert registry.provenance(root[0].run_id) is None
        origin = Provenance(
            path="edits/été.jsonl", commit="1" * 40, author="Ada", summary="Move", dirty=True
        )
        made = registry.publish(draft_of(name, root[1].base, parents=[root], provenance=origin))
        assert registry.provenance(made.run_id) == origin

    # The ledger

    def test_a_ledger_begins_empty_and_keeps_its_order(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        info, _ = root_of(registry, chat_folder, name)
        assert registry.ledger(name) == {}
        entries = {
            number: verdict(info.digest, f"no. {number} <b>| über\n") for number in (1, 2, 3)
        }
        for number in (2, 1, 3):
            assert registry.append(name, number, entries[number])
        assert list(registry.ledger(name).items()) == list(entries.items())
        assert registry.record(name, lambda found: verdict(info.digest, str(len(found))))[0] == 4
        assert registry.ledger(name)[4].note == "3"

    def test_a_number_that_is_taken_stays_as_it_is(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        info, _ = root_of(registry, chat_folder, name)
        first = verdict(info.digest, "first")
        assert registry.append(name, 1, first)
        assert registry.append(name, 1, verdict(info.digest, "second")) is False
        assert registry.ledger(name) == {1: first}

    def test_an_unknown_model_has_no_ledger(self, registry: Registry, name: str) -> None:
        with pytest.raises(self.not_there):
            registry.ledger(name)
        with pytest.raises(self.not_there):
            registry.append(name, 1, verdict("0" * 64))

    def test_writers_of_one_ledger_take_turns(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        info, _ = root_of(registry, chat_folder, name)
        seen: dict[int, tuple[int, Entry]] = {}

        def write(i: int) -> None:
            def decide(entries: dict[int, Entry]) -> Entry:
                return verdict(info.digest, f"{i} after {len(entries)}")

            seen[i] = registry.record(name, decide)

        in_threads(N_WRITERS, write)
        ledger = registry.ledger(name)
        assert list(ledger) == list(range(1, N_WRITERS + 1))
        assert dict(seen.values()) == ledger
        for number, entry in ledger.items():  # each was decided on all that came before it
            assert entry.note.endswith(f"after {number - 1}")

    # Aliases and tags

    def aliases(self, registry: Registry, name: str) -> dict[int, tuple[str, ...]]:
        return {v.version: v.aliases for v in registry.versions(name) if v.aliases}

    def test_an_alias_is_moved_and_removed(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        made = registry.publish(draft_of(name, root[1].base, parents=[root]))
        registry.set_alias(name, "champion", 1)
        registry.set_alias(name, "a", 1)
        assert self.aliases(registry, name) == {1: ("a", "champion")}
        registry.set_alias(name, "champion", 2)
        registry.set_alias(name, "champion", 2)
        assert self.aliases(registry, name) == {1: ("a",), 2: ("champion",)}
        assert registry.resolve(parse_ref(f"{name}@champion")).digest == made.digest
        for _ in range(2):
            registry.set_alias(name, "champion", None)
            assert self.aliases(registry, name) == {1: ("a",)}
        with pytest.raises(VersionNotFound):
            registry.resolve(parse_ref(f"{name}@champion"))

    def test_an_alias_of_no_version_is_refused(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root_of(registry, chat_folder, name)
        registry.set_alias(name, "champion", 1)
        with pytest.raises(VersionNotFound):
            registry.set_alias(name, "champion", 7)
        assert self.aliases(registry, name) == {1: ("champion",)}

    def test_a_tag_changes_no_version(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        info, manifest = root_of(registry, chat_folder, name)
        registry.tag(info, "mledit.approval", "approved by Ada")
        registry.tag(info, "mledit.approval", "rejected by Bob")
        assert registry.versions(name) == [info]
        assert registry.inconsistencies(info, manifest) == []

    # Review

    def test_a_tag_is_read(self, registry: Registry, chat_folder: Path, name: str) -> None:
        info, manifest = root_of(registry, chat_folder, name)
        assert registry.tagged(info, "mledit.review") is None
        registry.tag(info, "mledit.review", "approved")
        assert registry.tagged(info, "mledit.review") == "approved"
        draft = replace(draft_of(name, manifest.base, parents=[(info, manifest)]), review="queue")
        assert registry.tagged(registry.publish(draft), "mledit.review") == "queue"

    def test_a_queue_is_kept_or_refused(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        info, _ = root_of(registry, chat_folder, name)
        assert registry.review_queue(info) is None
        refused = registry.no_queues(name)
        if refused is not None:
            with pytest.raises(MlflowEditError):
                registry.ask(info, [question(name, 1)])
            assert registry.review_queue(info) is None
            return
        first = registry.ask(info, [question(name, 1)])
        assert first.asked == {question(name, 1).id: Answered(complete=False, answers={})}
        both = registry.ask(info, [question(name, 1), question(name, 2)])
        assert both.link == first.link
        assert both.asked.keys() == {question(name, 1).id, question(name, 2).id}
        assert registry.review_queue(info) == both
        assert registry.ask(info, [question(name, 2)]) == both

    # Care

    def test_what_is_published_is_consistent(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        batch = hand_made_batch(root[1].base.digest, [("Where?", "Oslo")])
        long = "x" * 450 + "<b>| über"  # a parameter of MLflow holds less
        made = registry.publish(
            draft_of(name, root[1].base, parents=[root], batch=batch, message=long)
        )
        registry.set_alias(name, "champion", 2)
        for info in registry.versions(name):
            assert registry.inconsistencies(info, registry.manifest(info)) == []
        registry.mend(made, registry.manifest(made))
        assert registry.inconsistencies(made, registry.manifest(made)) == []
        assert registry.leftovers(name) == []

    left_behind = {"model", "run"}

    def test_what_an_interrupted_publish_leaves_is_found_and_removed(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        batch = hand_made_batch(
            root[1].base.digest, [("Where?", "Oslo")], seed=secrets.randbits(32)
        )
        draft = draft_of(name, root[1].base, parents=[root], batch=batch)

        def interrupt(_: object) -> str:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            registry.publish(replace(draft, description=interrupt))
        found = registry.leftovers(name)
        assert {leftover.kind for leftover in found} == self.left_behind
        assert len(found) == len(self.left_behind)
        assert all(-60 < leftover.age < 600 for leftover in found)
        for leftover in found:
            registry.remove(name, leftover)
        assert registry.leftovers(name) == []
        assert registry.versions(name) == [root[0]]
        made = registry.publish(draft)
        assert registry.batch(registry.manifest(made).batches[0]).files() == batch.files()
        assert registry.leftovers(name) == []

    def test_an_evaluation_is_no_leftover(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        root = root_of(registry, chat_folder, name)
        registry.record_evaluation(root[0], Scorecard(reliability=0.5), {RESULTS: b"{}"})
        assert registry.leftovers(name) == []
        assert registry.inconsistencies(*root) == []


class MlflowContract(RegistryContract):
    """What holds of a store whose pages other people can change."""

    def become_reviewer(self, queue_id: str) -> None:
        """Do what a store asks of somebody before they may mark an item of a queue complete."""

    def root(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> tuple[MlflowRegistry, VersionInfo, Manifest]:
        assert isinstance(registry, MlflowRegistry)
        return (registry, *root_of(registry, chat_folder, name))

    def test_answers_are_read_from_the_pages_of_mlflow(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        mlflow, info, _ = self.root(registry, chat_folder, name)
        one, two = question(name, 1), question(name, 2)
        queue = mlflow.ask(info, [one, two])
        queue_id = queue.link.rpartition("=")[2]
        self.become_reviewer(queue_id)
        answer_in_queue(queue_id, one.id, ada=True, bob=False)
        answer_in_queue(queue_id, one.id, bob=True)
        answer_in_queue(queue_id, two.id, complete=False, ada=True)
        set_feedback(two.id, "ada", "yes")  # no plain yes
        for kind in ("LLM_JUDGE", "CODE"):  # no persons
            set_feedback(one.id, f"a {kind}", True, kind=kind)
        found = mlflow.review_queue(info)
        assert found is not None
        assert found.asked == {
            one.id: Answered(complete=True, answers={"ada": True, "bob": True}),
            two.id: Answered(complete=False, answers={"ada": False}),
        }

    def test_a_server_that_answers_something_else_has_no_queues(
        self, registry: Registry, chat_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mlflow, _, _ = self.root(registry, chat_folder, name)

        def odd(**_: object) -> None:
            raise ValueError("Expecting value: line 1 column 1")  # a page, where JSON was expected

        monkeypatch.setattr("mlflow.genai.review_queues.list_review_queues", odd)
        assert "Expecting value" in str(mlflow.no_queues(name))

    def test_the_description_links_to_the_queue_once(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        mlflow, info, manifest = self.root(registry, chat_folder, name)
        draft = draft_of(
            name, manifest.base, parents=[(info, manifest)], description=lambda it: "why\n\nmore"
        )
        made = mlflow.publish(draft)
        for _ in range(2):
            link = mlflow.ask(made, [question(name, 1)]).link
            page = link[link.index("#") :]
            text = mlflow.client.get_model_version(name, str(made.version)).description
            assert text == f"why\n\n[Review 1 change]({page})\n\nmore"

    def test_more_questions_than_mlflow_takes_at_once(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        mlflow, info, _ = self.root(registry, chat_folder, name)
        questions = [question(name, number) for number in range(520)]
        assert mlflow.ask(info, questions).asked.keys() == {one.id for one in questions}

    def test_a_tag_is_shown(self, registry: Registry, chat_folder: Path, name: str) -> None:
        mlflow, info, _ = self.root(registry, chat_folder, name)
        registry.tag(info, "mledit.approval", "approved by Ada")
        shown = mlflow.client.get_model_version(name, "1").tags
        assert shown["mledit.approval"] == "approved by Ada"

    def test_what_somebody_changed_is_named_and_mended(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        mlflow, info, manifest = self.root(registry, chat_folder, name)
        client = mlflow.client
        client.set_model_version_tag(name, "1", "mledit.digest", "f" * 12)
        client.delete_model_version_tag(name, "1", "mledit.edits")
        client.update_run(info.run_id, status="FAILED")
        said = registry.inconsistencies(info, manifest)
        assert [sentence.split(" is ")[0] for sentence in said] == [
            "tag mledit.digest", "tag mledit.edits", "its run",
        ]  # fmt: skip
        assert "f" * 12 in said[0]
        assert info.digest[:12] in said[0]
        registry.mend(info, manifest)
        assert registry.inconsistencies(info, manifest) == []
        client.delete_run(info.run_id)
        assert registry.inconsistencies(info, manifest) == ["its run is deleted"]
        registry.mend(info, manifest)
        assert registry.inconsistencies(info, manifest) == []
        assert registry.versions(name) == [info]

    def test_a_run_of_somebody_else_is_no_leftover(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        mlflow, info, _ = self.root(registry, chat_folder, name)
        run = mlflow.client.create_run(info.experiment_id)
        assert registry.leftovers(name) == []
        mlflow.client.delete_run(run.info.run_id)

    def test_a_writer_at_work_is_listed_with_its_age(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        _, _, manifest = self.root(registry, chat_folder, name)
        seen: list[tuple[str, str]] = []

        def look(_: object) -> str:
            seen.extend((left.kind, left.status) for left in registry.leftovers(name))
            return ""

        registry.publish(replace(draft_of(name, manifest.base), description=look))
        assert set(seen) == {("model", "READY"), ("run", "FINISHED")}
        assert registry.leftovers(name) == []

    def test_a_deleted_experiment_comes_back(
        self, registry: Registry, chat_folder: Path, name: str
    ) -> None:
        mlflow, info, manifest = self.root(registry, chat_folder, name)
        mlflow.client.delete_experiment(info.experiment_id)
        made = registry.publish(draft_of(name, manifest.base, parents=[(info, manifest)]))
        found = registry.versions(name)
        assert [v.digest for v in found] == [info.digest, made.digest]
        experiment = mlflow.client.get_experiment_by_name(experiment_name(name))
        assert experiment.lifecycle_stage == "active"

    @pytest.mark.parametrize("where", ["mlflow_registry", "mlflow_care"])
    def test_a_version_that_appears_while_they_are_listed(
        self,
        registry: Registry,
        chat_folder: Path,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
        where: str,
    ) -> None:
        _, info, manifest = self.root(registry, chat_folder, name)

        def publish_after(*args: Any) -> Any:
            listing.undo()
            found = logged_models(*args)
            registry.publish(draft_of(name, manifest.base, parents=[(info, manifest)]))
            return found

        with monkeypatch.context() as listing:
            listing.setattr(f"mlflow_edit.registry.{where}.logged_models", publish_after)
            if where == "mlflow_registry":
                assert registry.versions(name) == [info]
            else:
                assert registry.leftovers(name) == []
        assert [v.version for v in registry.versions(name)] == [1, 2]
