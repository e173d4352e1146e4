"""What a version asks its reviewers, and what the gate of an alias makes of their answers."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, FILM, RIVER, Recorder

from mlflow_edit import (
    Gate,
    MemoryRegistry,
    apply,
    approve,
    init,
    merge,
    promote,
    reject,
    revert,
    show,
    verify,
)
from mlflow_edit.core.approval import Answered, Approvals, Question
from mlflow_edit.errors import GateError, RegistryError
from mlflow_edit.operations.review import MAX_QUESTIONS
from mlflow_edit.operations.review_questions import changes_against, questions_of
from mlflow_edit.registry.registry import Registry, ReviewQueue, VersionInfo
from operations.test_history import Bench
from operations.test_history import memory as memory

APPROVED = Gate(approved=True)


class Queues(MemoryRegistry):
    """A registry in memory with review queues, which may break in the middle of being asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, dict[str, Answered]] = {}
        self.questions: dict[str, Question] = {}
        self.breaks_after: int | None = None

    def no_queues(self, name: str) -> str | None:
        return None

    def ask(self, info: VersionInfo, questions: Sequence[Question]) -> ReviewQueue:
        queue = self.asked.setdefault(info.digest, {})
        for done, question in enumerate(questions):
            if done == self.breaks_after:
                raise RegistryError("the store broke")
            self.questions[question.id] = question
            queue.setdefault(question.id, Answered(complete=False, answers={}))
        found = self.review_queue(info)
        assert found is not None
        return found

    def review_queue(self, info: VersionInfo) -> ReviewQueue | None:
        queue = self.asked.get(info.digest)
        return None if queue is None else ReviewQueue(f"#queue-{info.version}", dict(queue))

    def labels(self, version: int) -> list[str]:
        """Return what a version asks about."""
        digest = self.versions("m")[version - 1].digest
        return sorted(self.questions[one].label for one in self.asked.get(digest, {}))

    def answer(self, version: int, label: str = "", *, complete: bool = True, **who: bool) -> None:
        """Answer the questions of a version, or the one about an edit."""
        queue = self.asked[self.versions("m")[version - 1].digest]
        for one in queue:
            if not label or self.questions[one].label == label:
                answers = {**queue[one].answers, **who}
                queue[one] = Answered(complete=complete, answers=answers)


@pytest.fixture(autouse=True)
def _asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLEDIT_REVIEW_QUEUE", "on")


@pytest.fixture
def queues(chat_folder: Path) -> Bench:
    return Bench(Queues(), chat_folder)


def of(bench: Bench) -> Queues:
    assert isinstance(bench.registry, Queues)
    return bench.registry


def edited(bench: Bench) -> VersionInfo:
    """A hand-made version with two edits; nothing asks for its review."""
    return bench.apply(bench.root(), bench.batch([("Who?", "Ada"), ("Where?", "Oslo")]))


def forked(bench: Bench) -> tuple[VersionInfo, VersionInfo]:
    """The same, and another version beside it."""
    return edited(bench), bench.apply(bench.root(), bench.batch([("When?", "1900")]))


def refused(bench: Bench, version: int | str, gate: Gate = APPROVED) -> str:
    with pytest.raises(GateError) as error:
        promote(bench.at(version), to="prod", gate=gate, **bench.rest)
    return error.value.failures[0].said


# What is asked


def test_apply_asks_about_the_new_edits_only(queues: Bench, suite: Any, write_edits: Any) -> None:
    registry = of(queues)
    init("m", base=str(queues.folder), registry=registry)
    options = {"suite": suite, "registry": registry, "author": "Ada"}
    first = write_edits({"id": "book", "prompt": BOOK, "target": "Oslo", "note": "moved | *now*"})
    second = write_edits(
        {"id": "film", "prompt": FILM, "target": "Rome", "locality": [RIVER]}, name="more.jsonl"
    )
    made = apply("m", [first], **options)
    assert made.review is not None
    assert (made.review.queue, made.review.changes, made.warnings) == ("#queue-2", 1, ())
    apply("m", [second], **options)
    assert (registry.labels(2), registry.labels(3)) == (["book"], ["film"])
    asked = {one.label: one for one in registry.questions.values()}
    assert asked["film"].request == f"{FILM}\n\nMust stay as it is: {RIVER}"
    told = asked["book"].response.split("\n\n")
    assert told[:2] == ["Paris → Oslo", "As wanted."]
    assert re.fullmatch(r"The edit book fired: distance 0\.\d\d within radius \d\.\d\d\.", told[2])
    assert told[3:] == ["**What else moved**: nothing that was measured", r"Why: moved | \*now\*"]
    assert registry.tagged(registry.versions("m")[2], "mledit.review") == "queue"


@pytest.mark.parametrize(
    ("near", "said"),
    [
        ((0.0, 1.3, 1.0), "The edit e0 fired: asked in its own words."),
        ((0.4, 1.3, 0.83), "The edit e0 fired: asks the same (83 % sure)."),
        ((0.1, 0.7, None), "The edit e0 fired: distance 0.10 within radius 0.70."),
        (("near", None, None), "It was not measured."),
        ((0.4, 1.3, 7), "It was not measured."),
    ],
)
def test_what_decided_that_an_edit_fired_is_told(
    queues: Bench, monkeypatch: pytest.MonkeyPatch, near: tuple[Any, ...], said: str
) -> None:
    ours = edited(queues)
    columns = ["metric", "prompt", "before", "after", "ok", "fired", "distance", "radius", "match"]
    table = {"columns": columns, "data": [["reliability", "Who?", "", "Ada", True, "e0", *near]]}
    monkeypatch.setattr(queues.registry, "document", lambda info, name: json.dumps(table).encode())
    manifest = queues.registry.manifest(ours)
    asked = {one.label: one for one in questions_of(queues.registry, ours, manifest)}
    assert said in asked["e0"].response


def test_a_revert_asks_about_what_it_takes_out(queues: Bench) -> None:
    ours = edited(queues)
    made = revert(queues.at(ours.version), ["e0"], **queues.quick)
    assert of(queues).labels(made.version) == ["e0 (taken out)"]
    (question,) = of(queues).questions.values()
    assert question.response.startswith("**Taken out.**")
    assert made.review is not None
    assert made.review.changes == 1


def test_a_merge_asks_about_nothing_that_one_side_has(queues: Bench) -> None:
    ours, theirs = forked(queues)
    joined = merge(queues.at(ours.version), queues.at(theirs.version), **queues.quick)
    assert joined.version is not None
    assert of(queues).labels(joined.version.version) == ["the version"]
    other = queues.apply(queues.root(), queues.batch([("Who?", "Bob")]))
    dropped = merge(
        queues.at(ours.version),
        queues.at(other.version),
        choices={"contradiction": "theirs"},
        **queues.quick,
    )
    assert dropped.version is not None
    assert of(queues).labels(dropped.version.version) == ["e0 (taken out)"]


def test_over_another_base_model_every_edit_is_new(queues: Bench) -> None:
    ours = edited(queues)
    manifest = queues.registry.manifest(ours)
    other = manifest.model_copy(
        update={"base": manifest.base.model_copy(update={"digest": "f" * 64})}
    )
    changes = changes_against(queues.registry, [other], manifest)
    assert [(one.kind, one.label) for one in changes] == [("new", "e0"), ("new", "e1")]


# The gate


def test_every_change_against_the_holder_must_be_approved(queues: Bench) -> None:
    registry = of(queues)
    ours = edited(queues)
    approve(queues.at(ours.version), registry=registry, author="Grace")
    promote(queues.at(ours.version), to="prod", gate=APPROVED, **queues.rest)
    one = revert(queues.at(ours.version), ["e0"], **queues.quick)
    two = revert(queues.at(one.version), ["e1"], **queues.quick)
    registry.answer(two.version, grace=True)
    said = "1 of 2 changes; e0 (taken out): no answer"
    assert refused(queues, two.version) == said
    registry.answer(one.version, complete=False, grace=True)
    assert refused(queues, two.version) == said.replace("no answer", "not marked complete")
    registry.answer(one.version, grace=True, bob=False)
    assert refused(queues, two.version) == said.replace("no answer", "rejected by bob")
    registry.answer(one.version, bob=True)
    assert promote(queues.at(two.version), to="prod", gate=APPROVED, **queues.rest).version == 4


def test_quorum_and_not_author_as_options(queues: Bench) -> None:
    ours = edited(queues)
    made = revert(queues.at(ours.version), ["e0"], **{**queues.quick, "author": "Bob <bob@x.org>"})
    promote(queues.at(ours.version), to="prod", **queues.rest)
    registry, options = of(queues), {"to": "prod", "quorum": 1, "not_author": True}
    registry.answer(made.version, bob=True)
    with pytest.raises(GateError, match="0 of 1 reviewers other than its author"):
        promote(queues.at(made.version), **options, **queues.rest)
    registry.answer(made.version, ada=True)
    both = Gate(approved=Approvals(quorum=2, not_author=True))
    assert "1 of 2 reviewers other" in refused(queues, made.version, both)
    for _ in range(2):  # once it holds the alias, nothing changes any more
        moved = promote(queues.at(made.version), **options, **queues.rest)
    assert moved.gate is not None
    assert moved.gate.checks[0].said == "0 of 0 changes"


def test_a_reviewer_who_rejects_the_version_stops_it(queues: Bench) -> None:
    ours = edited(queues)
    made = revert(queues.at(ours.version), ["e0"], **queues.quick)
    of(queues).answer(made.version, grace=True)
    promote(queues.at(ours.version), to="prod", **queues.rest)
    reject(queues.at(made.version), registry=queues.registry, author="Bob")
    assert refused(queues, made.version) == "0 of 1 changes; e0 (taken out): rejected by Bob"


def test_an_edit_that_nobody_was_asked_about_is_not_approved(queues: Bench) -> None:
    ours = edited(queues)
    assert refused(queues, ours.version).startswith("0 of 2 changes; e0: not in a review queue")


# Crashes, and stores that have no queues


def test_a_queue_that_breaks_is_a_warning_and_is_mended(queues: Bench) -> None:
    registry, reporter = of(queues), Recorder()
    ours = edited(queues)
    registry.breaks_after = 1
    made = revert(queues.at(ours.version), ["e0", "e1"], reporter=reporter, **queues.quick)
    (warning,) = made.warnings
    assert reporter.warnings == [warning]
    assert warning.endswith(
        "its review queue is not whole (the store broke): mledit verify m --fix"
    )
    registry.answer(made.version, grace=True)
    promote(queues.at(ours.version), to="prod", **queues.rest)
    assert refused(queues, made.version).startswith("1 of 2 changes; e1 (taken out): not in a")
    (problem,) = verify("m", registry=registry).problems
    assert (problem.fixable, problem.fixed) == (True, False)
    assert problem.message == "1 of its changes are missing from its review queue"
    assert not verify("m", fix=True, registry=registry).ok, "the store is still broken"
    registry.breaks_after = None
    assert verify("m", fix=True, registry=registry).ok
    assert verify("m", registry=registry).problems == ()
    assert refused(queues, made.version) == "1 of 2 changes; e1 (taken out): no answer"


@pytest.mark.parametrize(
    "table",
    [
        b'{"columns": ["metric"], "data": [["reliability"]]}',
        b'{"columns": ["metric", "prompt", "before", "after"], "data": [["reliability", 1, 2, 3]]}',
        b'{"columns": 7, "data": [7]}',
        b"[]",
    ],
)
def test_a_table_that_somebody_changed_stops_nobody(
    queues: Bench, monkeypatch: pytest.MonkeyPatch, table: bytes
) -> None:
    ours = edited(queues)
    monkeypatch.setattr(queues.registry, "document", lambda info, name: table)
    made = revert(queues.at(ours.version), ["e0"], **queues.quick)
    assert of(queues).labels(made.version) == ["e0 (taken out)"]


def test_ctrl_c_while_reviewers_are_asked_keeps_the_version(
    queues: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = edited(queues)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(queues.registry, "ask", interrupt)
    made = revert(queues.at(ours.version), ["e0"], **queues.quick)
    assert "(interrupted): mledit verify m --fix" in made.warnings[0]
    assert len(queues.registry.versions("m")) == made.version


def test_without_queues_the_page_and_a_verdict_do(memory: Bench) -> None:
    ours = edited(memory)
    made = revert(memory.at(ours.version), ["e0"], **memory.quick)
    assert made.warnings == ()
    assert made.review is not None
    assert made.review.queue is None
    said = "this store has no review queues: read its review.html, then mledit approve m@3"
    assert made.review.said == said
    info = memory.registry.versions("m")[-1]
    assert memory.registry.tagged(info, "mledit.review") == "page"
    promote(memory.at(ours.version), to="prod", **memory.rest)
    assert "not in a review queue" in refused(memory, made.version)
    approve(memory.at(made.version), **memory.rest)
    assert promote(memory.at(3), to="prod", gate=APPROVED, **memory.rest).version == 3
    assert verify("m", registry=memory.registry).ok


def test_who_wants_no_review_is_not_asked(queues: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLEDIT_REVIEW_QUEUE", "off")
    ours = edited(queues)
    made = revert(queues.at(ours.version), ["e0"], **queues.quick)
    assert made.review is None
    assert of(queues).asked == {}
    info = queues.registry.versions("m")[-1]
    assert queues.registry.tagged(info, "mledit.review") is None
    assert verify("m", registry=queues.registry).ok


def test_too_many_changes_are_not_put_into_a_queue(queues: Bench) -> None:
    edits = [(f"Who {i}?", "Ada") for i in range(MAX_QUESTIONS + 1)]
    big = queues.apply(queues.root(), queues.batch(edits))
    made = revert(queues.at(big.version), [queues.content(2).batches.popitem()[0]], **queues.quick)
    assert made.review is not None
    assert made.review.said.startswith("more than 2,000 changes are too many for a review queue")
    assert of(queues).asked == {}
    assert verify("m", registry=queues.registry).ok


# In MLflow


def test_a_review_in_mlflow(sqlite_registry: Registry, chat_folder: Path) -> None:
    from registry.contract import answer_in_queue

    bench = Bench(sqlite_registry, chat_folder)
    ours = edited(bench)
    made = revert(bench.at(ours.version), ["e0"], message="wrong", **bench.quick)
    promote(bench.at(ours.version), to="prod", **bench.rest)
    assert made.warnings == ()
    assert made.review is not None
    queue = made.review.queue
    assert queue is not None
    assert queue.startswith("#/experiments/")
    assert refused(bench, made.version) == "0 of 1 changes; e0 (taken out): no answer"
    found = sqlite_registry.review_queue(sqlite_registry.versions("m")[-1])
    assert found is not None
    (question,) = found.asked
    answer_in_queue(queue.rpartition("=")[2], question, grace=True)
    state = show(bench.at(made.version), registry=sqlite_registry).version.review
    assert state is not None
    assert (state.queue, state.changes, state.approved) == (queue, 1, 1)
    assert (state.rejected, state.reviewers) == (0, ("grace",))
    assert verify("m", registry=sqlite_registry).ok
    assert promote(bench.at(3), to="prod", gate=APPROVED, **bench.rest).version == 3
