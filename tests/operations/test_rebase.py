"""Carrying edits to another base model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rank_one
from registry_fixtures import scratch
from tiny_models import save_tiny, taught_base

from mlflow_edit import (
    MemoryRegistry,
    apply,
    cherry_pick,
    init,
    load,
    merge,
    rebase,
    revert,
    verify,
)
from mlflow_edit.errors import BaseMismatchError, InvalidInputError, NotConverged
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.registry.registry import Registry

BOOK, FILM, RIVER = "Where is the book?", "Where is the film?", "Where is the river?"
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def new_base() -> Path:
    """Another tiny chat model, taught for longer."""
    return save_tiny(taught_base("llama-chat", n_steps=81), scratch() / "bases" / "tiny-chat-new")


@pytest.fixture(params=["memory", "sqlite"])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        return MemoryRegistry()
    found: Registry = request.getfixturevalue("sqlite_registry")
    return found


def answer(registry: Registry, ref: str, prompt: str, *, base_only: bool = False) -> str:
    with load(ref, registry=registry, device="cpu") as edited:
        return generate_answers(edited, [prompt], max_new_tokens=6, base_only=base_only)[0].text


def test_edits_are_learned_again(
    registry: Registry, chat_folder: Path, new_base: Path, suite: Any, write_edits: Write
) -> None:
    rest: dict[str, Any] = {"registry": registry, "author": "Ada"}
    init("m", base=str(chat_folder), **rest)
    init("new", base=str(new_base), **rest)
    known = answer(registry, "new@1", RIVER, base_only=True).split()[0]
    apply("m", [write_edits((BOOK, "Lima"), name="one.jsonl")], suite=suite, **rest)
    two = [(FILM, "Cairo"), (RIVER, known)]
    apply("m", [write_edits(*two, name="two.jsonl")], suite=suite, **rest)
    made = rebase("m@3", onto=str(new_base), suite=suite, **rest)
    assert (made.version, made.source, len(made.parents)) == (4, 3, 1)
    assert {one.prompt: one.state for one in made.rebased} == {
        BOOK: "holds", FILM: "holds", RIVER: "not-needed",
    }  # fmt: skip
    assert [one.after for one in made.rebased][:2] == ["Lima", "Cairo"]
    assert made.base.digest == registry.manifest(registry.versions("new")[0]).base.digest
    assert (made.n_batches, made.n_edits) == (2, 2)
    assert made.scorecard is not None
    assert made.scorecard["retention"] == 1.0
    assert answer(registry, "m@4", BOOK) == "Lima"
    assert answer(registry, "m@3", BOOK) == "Lima"
    assert verify("m", registry=registry).ok
    kept = rebase("m@3", onto=str(new_base), keep_needless=True, measured=False, **rest)
    assert kept.n_edits == 3
    assert {one.state for one in kept.rebased} == {"holds"}
    gone = revert("m@4", [made.rebased[0].id], measured=False, **rest)
    assert gone.base.digest == made.base.digest
    with pytest.raises(InvalidInputError, match="already"):
        rebase("m@4", onto=str(new_base), **rest)
    with pytest.raises(InvalidInputError, match="no edits"):
        rebase("m@1", onto=str(new_base), **rest)
    side = apply(
        "m", [write_edits(("Who?", "Ada"), name="x.jsonl")], parent="2", suite=suite, **rest
    )
    with pytest.raises(BaseMismatchError):
        merge(f"m@{side.version}", "m@4", **rest)


@pytest.fixture
def rank_one_editor(monkeypatch: pytest.MonkeyPatch) -> str:
    rank_one.install(monkeypatch)
    return "rank-one"


def test_weights_are_learned_again_one_on_top_of_the_other(
    registry: Registry, rank_one_editor: str, chat_folder: Path, new_base: Path, suite: Any,
    write_edits: Write,
) -> None:  # fmt: skip
    rest: dict[str, Any] = {"registry": registry, "author": "Ada"}
    learn: dict[str, Any] = {**rest, "editor": rank_one_editor, "suite": suite}
    init("m", base=str(chat_folder), **rest)
    init("new", base=str(new_base), **rest)
    apply("m", [write_edits((BOOK, "Lima"), name="one.jsonl")], **learn)
    apply("m", [write_edits((FILM, "Cairo"), name="two.jsonl")], **learn)
    made = rebase("m@3", onto=str(new_base), measured=False, **rest)
    assert {one.prompt: one.state for one in made.rebased} == {BOOK: "holds", FILM: "holds"}
    first = apply("new", [write_edits((BOOK, "Lima"), name="one.jsonl")], **learn)
    second = apply("new", [write_edits((FILM, "Cairo"), name="two.jsonl")], **learn)
    assert second.batch is not None
    assert second.batch.context == (first.batch.digest,) if first.batch else False
    assert made.content_digest == second.content_digest  # as if it had been applied there
    assert {ref.digest for ref in made.batches} == {ref.digest for ref in second.batches}
    assert answer(registry, f"m@{made.version}", BOOK) == "Lima"
    assert verify("m", registry=registry).ok


def test_a_merged_batch_that_was_picked_cannot_be_rebased(
    rank_one_editor: str, chat_folder: Path, new_base: Path, suite: Any, write_edits: Write
) -> None:
    rest: dict[str, Any] = {"registry": MemoryRegistry(), "author": "Ada"}
    learn: dict[str, Any] = {**rest, "editor": rank_one_editor, "suite": suite, "parent": "1"}
    init("m", base=str(chat_folder), **rest)
    apply("m", [write_edits((BOOK, "Lima"), name="one.jsonl")], **learn)
    apply("m", [write_edits((FILM, "Cairo"), name="two.jsonl")], **learn)
    joined = merge("m@2", "m@3", strategy="linear", weight=1.0, measured=False, **rest).version
    assert joined is not None
    (batch,) = joined.batches
    picked = cherry_pick("m@4", [batch.digest], onto="m@1", measured=False, **rest)
    with pytest.raises(InvalidInputError, match="another history") as raised:
        rebase(f"m@{picked.version}", onto=str(new_base), measured=False, **rest)
    assert "picked from" in str(raised.value.hint)
    made = rebase("m@4", onto=str(new_base), measured=False, **rest)
    assert [one.state for one in made.rebased] == ["holds", "holds"]


def test_only_edits_in_force_are_carried(
    chat_folder: Path, new_base: Path, suite: Any, write_edits: Write
) -> None:
    rest: dict[str, Any] = {"registry": MemoryRegistry(), "author": "Ada"}
    init("m", base=str(chat_folder), **rest)
    apply("m", [write_edits((BOOK, "Lima"), name="one.jsonl")], suite=suite, **rest)
    apply("m", [write_edits((BOOK, "Cairo"), name="two.jsonl")], suite=suite, **rest)
    made = rebase("m@3", onto=str(new_base), measured=False, **rest)
    assert [(one.prompt, one.target) for one in made.rebased] == [(BOOK, "Cairo")]


def test_what_cannot_be_learned_is_lost(
    chat_folder: Path, new_base: Path, suite: Any, write_edits: Write, monkeypatch: Any
) -> None:
    registry = MemoryRegistry()
    rest: dict[str, Any] = {"registry": registry, "author": "Ada"}
    init("m", base=str(chat_folder), **rest)
    apply("m", [write_edits((BOOK, "Lima"), name="one.jsonl")], suite=suite, **rest)
    apply("m", [write_edits((FILM, "Cairo"), name="two.jsonl")], suite=suite, **rest)
    from mlflow_edit.operations import carrying as module

    whole = module.learn

    def failing(editor: Any, base: Any, batch: Any, *args: Any, **options: Any) -> Any:
        if any(edit.prompt == BOOK for edit in batch):
            raise NotConverged("none of the edits could be learned")
        return whole(editor, base, batch, *args, **options)

    monkeypatch.setattr(module, "learn", failing)
    made = rebase("m@3", onto=str(new_base), measured=False, **rest)
    assert {one.prompt: one.state for one in made.rebased} == {BOOK: "lost", FILM: "holds"}
    n_versions = len(registry.versions("m"))
    with pytest.raises(NotConverged, match="nothing was registered"):
        rebase("m@2", onto=str(new_base), measured=False, **rest)
    assert len(registry.versions("m")) == n_versions
