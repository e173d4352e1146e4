"""Verbs that ask the model: blame, bisect, diff of answers, export, and measuring what is recomposed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from registry_fixtures import BOOK, FILM, RIVER

from mlflow_edit import MemoryRegistry, apply, bisect, blame, diff, export, init, merge, revert
from mlflow_edit.errors import BisectFailed, EditNotFound, InvalidInputError, MergeConflict
from mlflow_edit.operations.bisect_tests import answer_test, command_test, score_test
from mlflow_edit.registry.exported import ExportedVersion

Write = Callable[..., Path]
WORSE: dict[str, Any] = {}  # scorecards that are put in the place of what was measured


@pytest.fixture
def store(chat_folder: Path, suite: Any, write_edits: Write) -> tuple[MemoryRegistry, Any, Any]:
    """A model with three versions: nothing, two edits, one edit of theirs replaced."""
    registry = MemoryRegistry()
    init("m", base=str(chat_folder), author="Ada", registry=registry)
    first = write_edits({"id": "book", "prompt": BOOK, "target": "Rome", "note": "moved"},
                        {"id": "film", "prompt": FILM, "target": "Oslo"})  # fmt: skip
    one = apply("m", [first], author="Ada", message="Move", suite=suite, registry=registry)
    second = write_edits({"id": "book2", "prompt": BOOK, "target": "Lima"}, name="b.jsonl")
    two = apply("m", [second], author="Bo", message="Again", suite=suite, registry=registry)
    return registry, one, two


def test_blame_names_the_edit_and_what_brought_it(store: Any) -> None:
    registry, one, two = store
    found = blame("m@3", BOOK, registry=registry)
    assert (found.answer, found.base_answer) == ("Lima", "Paris")
    assert found.fired is not None
    assert found.edit is not None
    assert (found.fired.edit_id, found.edit.target) == ("book2", "Lima")
    assert found.origin is not None
    assert (found.origin.version, found.origin.author, found.origin.message) == (3, "Bo", "Again")
    assert found.origin.run_id == two.run_id
    assert found.nearest[0].edit_id == "book2"
    assert found.nearest[0].inside
    assert found.nearest[0].distance == pytest.approx(found.fired.distance, abs=1e-3)
    older = blame("m@3", FILM, registry=registry)
    assert older.origin is not None
    assert (older.origin.version, older.origin.run_id) == (2, one.run_id)


def test_blame_says_when_the_base_answers(store: Any) -> None:
    registry, *_ = store
    found = blame("m@3", RIVER, registry=registry)
    assert (found.fired, found.edit, found.origin) == (None, None, None)
    assert found.answer == found.base_answer
    assert found.nearest
    assert not found.nearest[0].inside
    assert found.nearest[0].distance > found.nearest[0].radius
    assert blame("m@1", BOOK, registry=registry).nearest == ()
    with pytest.raises(InvalidInputError):
        blame("m@3", " ", registry=registry)


def test_diff_of_answers(store: Any, tmp_path: Path) -> None:
    registry, *_ = store
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{BOOK}\n\n{RIVER}\n")
    found = diff("m@2", "m@3", prompts=prompts, registry=registry)
    assert [(a.prompt, a.changed) for a in found.answers] == [(BOOK, True), (RIVER, False)]
    assert (found.answers[0].old, found.answers[0].new) == ("Rome", "Lima")
    assert diff("m@3", "m@3", prompts=prompts, registry=registry).is_empty
    for text, name in (("", "empty.txt"), ('{"a": 1}\n', "p.jsonl"), ("[", "p.json")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidInputError):
            diff("m@2", "m@3", prompts=tmp_path / name, registry=registry)


def test_a_measured_revert_and_what_it_answers(store: Any, suite: Any) -> None:
    registry, one, two = store
    made = revert("m@3", [two.batch.digest], suite=suite, author="Ada", registry=registry)
    assert made.content_digest == one.content_digest
    assert made.scorecard is not None
    assert made.scorecard["retention"] == made.scorecard["reliability"] == 1.0
    assert made.scorecard["n_probes"]["retention"] == 2
    assert blame(f"m@{made.version}", BOOK, registry=registry).answer == "Rome"
    bare = revert("m@3", ["film"], suite=suite, author="Ada", registry=registry)
    assert blame(f"m@{bare.version}", FILM, registry=registry).fired is None


def test_a_merge_measures_all_edits_again(store: Any, suite: Any, write_edits: Write) -> None:
    registry, *_ = store
    third = write_edits({"id": "r", "prompt": RIVER, "target": "Cairo"}, name="c.jsonl")
    fork = apply("m", [third], parent="2", author="Cy", suite=suite, registry=registry)
    assert any("another head" in said for said in fork.warnings)
    made = merge("m@3", f"m@{fork.version}", suite=suite, author="Ada", registry=registry)
    assert made.version is not None
    assert made.version.scorecard is not None
    assert made.version.scorecard["n_probes"]["retention"] == 3
    assert made.version.scorecard["retention"] == 1.0


def test_what_a_merge_makes_worse_must_be_accepted(
    store: Any, suite: Any, write_edits: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, *_ = store
    third = write_edits({"id": "r", "prompt": RIVER, "target": "Cairo"}, name="c.jsonl")
    fork = apply("m", [third], parent="2", author="Cy", suite=suite, registry=registry)
    monkeypatch.setattr("mlflow_edit.operations.pairing.MUST_NOT_FALL", ("perplexity",))
    for info in registry.versions("m")[1:]:
        manifest = registry.manifest(info)
        card = registry.scorecard(info, manifest)
        high = card.model_copy(update={"perplexity": 1e9})
        monkeypatch.setitem(WORSE, info.digest, high)
    real = registry.scorecard
    monkeypatch.setattr(registry, "scorecard", lambda i, m: WORSE.get(i.digest) or real(i, m))
    rest = {"suite": suite, "author": "Ada", "registry": registry}
    refs = "m@3", f"m@{fork.version}"
    with pytest.raises(MergeConflict) as raised:
        merge(*refs, **rest)
    [conflict] = raised.value.conflicts
    assert conflict.kind == "metric-regression"  # type: ignore[attr-defined]
    named = conflict.id  # type: ignore[attr-defined]
    made = merge(*refs, resolutions={named: "accept"}, **rest)
    assert [(r.conflict, r.choice) for r in made.resolutions] == [(named, "accept")]
    manifest = registry.manifest(registry.versions("m")[-1])
    assert [r.kind for r in manifest.resolutions] == ["metric-regression"]


def test_scopes_that_overlap_are_contradictions(
    chat_folder: Path, suite: Any, write_edits: Write
) -> None:
    registry = MemoryRegistry()
    init("m", base=str(chat_folder), author="Ada", registry=registry)
    wide = {"params": {"radius": 1000.0}, "suite": suite, "author": "Ada", "registry": registry}
    near = "Where was the book?"
    one = apply("m", [write_edits((BOOK, "Rome"))], **wide)
    two = apply("m", [write_edits((near, "Lima"), name="b.jsonl")], parent="1", **wide)
    with pytest.raises(MergeConflict) as raised:
        merge(f"m@{one.version}", f"m@{two.version}", author="Ada", registry=registry)
    [conflict] = raised.value.conflicts
    assert conflict.kind == "contradiction"  # type: ignore[attr-defined]
    assert not conflict.same_prompt  # type: ignore[attr-defined]
    assert conflict.distance is not None  # type: ignore[attr-defined]
    made = merge(
        f"m@{one.version}", f"m@{two.version}", choices={"contradiction": "both"},
        author="Ada", measured=False, registry=registry,
    )  # fmt: skip
    assert made.version is not None
    assert made.version.n_edits == 2
    radii = diff(f"m@{one.version}", f"m@{made.version.version}", registry=registry).radii
    assert [r.new < r.old for r in radii] == [True]


def test_bisect_finds_the_batch_and_the_edit(store: Any) -> None:
    registry, one, two = store
    test = answer_test(BOOK, expected="Paris", unwanted=None)
    by_batch = bisect("m@3", test, good="m@1", registry=registry)
    assert by_batch.state == "found"
    wrong = answer_test(BOOK, expected=None, unwanted="Lima")
    found = bisect("m@3", wrong, good="m@2", registry=registry)
    assert found.batches == (two.batch.digest,)
    single = bisect("m@2", answer_test(FILM, expected="Berlin", unwanted=None), subset=True,
                    registry=registry)  # fmt: skip
    assert [e.id for e in single.added] == ["film"]
    assert single.good is None


def test_bisect_finds_what_is_missing(store: Any) -> None:
    registry, one, _ = store
    gone = revert("m@2", ["film"], author="Ada", measured=False, registry=registry)
    test = answer_test(FILM, expected="Oslo", unwanted=None)
    found = bisect(f"m@{gone.version}", test, good="m@2", registry=registry)
    assert (found.added, [e.id for e in found.removed]) == ((), ["film"])


def test_bisect_refuses_ends_that_are_not_as_said(store: Any) -> None:
    registry, *_ = store
    never = answer_test(BOOK, expected="Nowhere", unwanted=None)
    with pytest.raises(BisectFailed, match="not good"):
        bisect("m@3", never, good="m@2", registry=registry)
    always = answer_test(RIVER, expected=None, unwanted="Nowhere")
    with pytest.raises(BisectFailed, match="not bad"):
        bisect("m@3", always, good="m@2", registry=registry)
    with pytest.raises(InvalidInputError, match="the same"):
        bisect("m@3", always, good="m@3", registry=registry)
    for wrong in ((None, None), ("a", "b")):
        with pytest.raises(InvalidInputError):
            answer_test(BOOK, expected=wrong[0], unwanted=wrong[1])
    with pytest.raises(InvalidInputError):
        score_test("speed", 1.0)


def test_bisect_by_a_score_and_by_a_command(
    store: Any, suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, one, two = store
    lost = score_test("perplexity_ratio", 1e9, suite)
    with pytest.raises(BisectFailed, match="not bad"):
        bisect("m@3", lost, good="m@2", registry=registry)
    script = tmp_path / "check.py"
    script.write_text(
        "import os, pathlib, sys\n"
        f"sys.exit((pathlib.Path(os.environ['MLEDIT_MODEL']) / 'batches/{two.batch.digest}')"
        ".is_dir())\n"
    )
    found = bisect("m@3", command_test(f"{sys.executable} {script}", registry), registry=registry)
    assert found.batches == (two.batch.digest,)
    with pytest.raises(BisectFailed, match="given up"):
        bisect("m@3", command_test("exit 200", registry), registry=registry)
    with pytest.raises(BisectFailed, match="not good"):
        bisect("m@3", command_test("exit 125", registry), registry=registry)


def test_an_exported_version_needs_no_server(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, *_ = store
    made = export("m@3", tmp_path / "out", registry=registry)
    assert made.bytes > 0
    assert ExportedVersion.is_at(tmp_path / "out")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    model = mlflow.pyfunc.load_model(str(tmp_path / "out"))
    assert list(model.predict([BOOK, FILM], params={"max_new_tokens": 5})) == ["Lima", "Oslo"]
    with pytest.raises(InvalidInputError, match="exists"):
        export("m@3", tmp_path / "out", registry=registry)
    patch = next((tmp_path / "out" / "batches").rglob("patch.safetensors"))
    data = bytearray(patch.read_bytes())
    data[-1] ^= 1
    patch.write_bytes(bytes(data))
    with pytest.raises(Exception, match="digest|damaged"):
        mlflow.pyfunc.load_model(str(tmp_path / "out"))
    with pytest.raises(EditNotFound):
        revert("m@3", ["no-such-edit"], registry=registry)
