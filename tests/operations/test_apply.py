"""Applying: forks, no-ops, supersession, what is refused, what is stored."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, FILM, RIVER, Recorder

from mlflow_edit import MlflowRegistry, apply, ask, init, inspect, load, log, revert, show
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.errors import (
    GateError,
    IntegrityError,
    InvalidEdit,
    InvalidInputError,
    InvalidParams,
    MlflowEditError,
    NotConverged,
    RegistryError,
    UnknownEditor,
    VersionNotFound,
)
from mlflow_edit.evaluation.evaluate import Evaluation
from mlflow_edit.operations import measuring
from mlflow_edit.operations.learning import _what_to_try
from mlflow_edit.operations.measuring import Trial
from operations.conftest import Bench

Write = Callable[..., Path]


def edited(bench: Bench, ref: str, *prompts: str) -> list[str]:
    return [a.edited for a in ask(ref, prompts, registry=bench.registry).answers]


def test_two_applies_to_one_parent_fork(bench: Bench, write_edits: Write) -> None:
    one = bench.apply(write_edits((BOOK, "Rome")), parent="1")
    two = bench.apply(write_edits((FILM, "Oslo")), parent="1")
    history = log("m", registry=bench.registry)
    assert history.heads == (2, 3)
    assert one.parents == two.parents == (history.versions[-1].digest,)
    assert edited(bench, "m@2", BOOK, FILM) == ["Rome", "Berlin"]
    assert edited(bench, "m@3", BOOK, FILM) == ["Paris", "Oslo"]
    three = bench.apply(write_edits((RIVER, "Lima")), parent=one.digest[:10])
    assert three.parents == (one.digest,)
    assert log("m", registry=bench.registry).heads == (3, 4)


def test_the_same_content_on_two_branches_has_one_content_digest(
    bench: Bench, write_edits: Write
) -> None:
    first = bench.apply(write_edits((BOOK, "Rome")), parent="1", message="here")
    again = bench.apply(write_edits((BOOK, "Rome")), parent="1", message="there")
    assert first.content_digest == again.content_digest
    assert first.digest != again.digest
    assert len(bench.registry.files) == 1


def test_heads_of_the_same_content_are_not_to_be_joined(bench: Bench, write_edits: Write) -> None:
    made = bench.apply(write_edits((BOOK, "Rome"), (FILM, "Oslo")))
    assert made.batch is not None
    how: dict[str, Any] = {"measured": False, "registry": bench.registry}
    first, again = (revert("m@2", [made.batch.digest], **how) for _ in range(2))
    assert first.warnings == ()
    assert again.warnings == ("the history has another head, version 3, of the same content",)
    history = log("m", registry=bench.registry)
    assert (history.heads, history.to_join) == ((3, 4), (4,))
    other = revert("m@2", [made.edits[0].id], **how)
    assert other.warnings[-1].endswith("join them with 'mledit merge m@5 m@4'")
    history = log("m", registry=bench.registry)
    assert (history.heads, history.to_join) == ((3, 4, 5), (4, 5))


def test_applying_the_same_file_again_does_nothing(bench: Bench, write_edits: Write) -> None:
    file = write_edits((BOOK, "Rome"), (FILM, "Oslo"))
    made = bench.apply(file)
    reporter = Recorder()
    again = bench.apply(file, reporter=reporter, message="another message")
    reordered = bench.apply(write_edits((FILM, "Oslo"), (BOOK, "Rome"), name="b.jsonl"))
    assert again.digest == reordered.digest == made.digest
    assert "nothing to do" in again.warnings[0]
    assert reporter.stages == []
    assert bench.count() == 2


def test_applying_a_file_again_of_which_not_all_was_learned(
    bench: Bench, write_edits: Write
) -> None:
    unlearnable = {"prompt": "What is 1?", "target": "Zxqv wvu 77 " * 6, "id": "hard"}
    file = write_edits((BOOK, "Rome"), unlearnable)
    reporter = Recorder()
    made = bench.apply(file, params={"max_steps": 10}, reporter=reporter)
    assert [u.edit_id for u in made.unsolved] == ["hard"]
    assert any("not learned: hard" in warning for warning in reporter.warnings)
    assert (made.n_edits, made.batch.n_edits if made.batch else None) == (1, 1)
    again = bench.apply(file, params={"max_steps": 10})
    assert [u.edit_id for u in again.unsolved] == ["hard"]
    assert again.digest == made.digest
    assert bench.count() == 2


def test_other_settings_make_another_batch(bench: Bench, write_edits: Write) -> None:
    file = write_edits((BOOK, "Rome"))
    first = bench.apply(file)
    second = bench.apply(file, params={"relative_radius": "0.05"})
    assert second.version == 3
    assert second.batch is not None
    assert first.batch is not None
    assert second.batch.digest != first.batch.digest
    assert second.n_batches == 2


def test_a_new_target_supersedes_the_old_edit(bench: Bench, write_edits: Write) -> None:
    old = bench.apply(write_edits({"prompt": BOOK, "target": "Rome", "id": "old"}, (FILM, "Oslo")))
    reporter = Recorder()
    asked = "  where IS the\tbook? "
    new = bench.apply(
        write_edits({"prompt": BOOK, "target": "Lima", "id": "new"}), reporter=reporter
    )
    assert old.batch is not None
    manifest = bench.registry.manifest(bench.registry.versions("m")[-1])
    assert [(x.batch, x.edit, x.reason) for x in manifest.exclusions] == [
        (old.batch.digest, "old", "superseded")
    ]
    assert [w for w in reporter.warnings if "superseded" in w and "old" in w]
    assert (new.n_edits, new.n_batches) == (2, 2)
    assert new.scorecard is not None
    assert new.scorecard["retention"] == 1.0
    assert new.scorecard["n_probes"]["retention"] == 2
    assert edited(bench, "m", BOOK, FILM) == ["Lima", "Oslo"]
    assert {e.id for e in show("m", registry=bench.registry).edits} >= {"new"}
    assert "old" not in {e.id for e in show("m", registry=bench.registry).edits}
    assert "old" not in {e.edit_id for e in inspect("m", registry=bench.registry).entries}
    assert edited(bench, "m@2", BOOK) == ["Rome"]
    reporter = Recorder()
    third = bench.apply(write_edits({"prompt": asked, "target": "Cairo"}), reporter=reporter)
    assert third.n_edits == 2
    assert len([w for w in reporter.warnings if "superseded" in w]) == 1
    manifest = bench.registry.manifest(bench.registry.versions("m")[-1])
    assert {x.edit for x in manifest.exclusions} == {"old", "new"}


def test_a_superseded_batch_can_be_applied_again(bench: Bench, write_edits: Write) -> None:
    first = write_edits(
        {"prompt": BOOK, "target": "Rome", "id": "old"}, (FILM, "Oslo"), name="a.jsonl"
    )
    made = bench.apply(first)
    bench.apply(write_edits({"prompt": BOOK, "target": "Lima", "id": "new"}, name="b.jsonl"))
    back = bench.apply(first)
    assert made.batch is not None
    assert back.version == 4
    assert back.batch == made.batch
    assert back.n_edits == 2
    manifest = bench.registry.manifest(bench.registry.versions("m")[-1])
    assert [(x.edit, x.reason) for x in manifest.exclusions] == [("new", "superseded")]
    assert back.scorecard is not None
    assert back.scorecard["reliability"] == back.scorecard["retention"] == 1.0
    assert edited(bench, "m", BOOK, FILM) == ["Rome", "Oslo"]


def test_ten_applies_store_ten_batches(
    sqlite_registry: MlflowRegistry, chat_folder: Path, write_edits: Write, suite: Any
) -> None:
    init("m", base=str(chat_folder), registry=sqlite_registry)
    subjects = ("book", "film", "river", "plant", "north")
    prompts = [
        q.format(s) for q in ("Where is the {}?", "Who wrote the {} of songs?") for s in subjects
    ]
    made = None
    for i, prompt in enumerate(prompts):
        file = write_edits({"prompt": prompt, "target": "Cairo", "id": f"e{i}"})
        made = apply("m", [file], suite=suite, registry=sqlite_registry, params={"max_steps": 60})
    assert made is not None
    assert (made.version, made.n_edits, made.n_batches) == (11, 10, 10)
    manifest = sqlite_registry.manifest(sqlite_registry.versions("m")[-1])
    stored = [path for path in Path("mlruns").rglob("batches/*") if path.is_dir()]
    assert sorted(path.name for path in stored) == [ref.digest for ref in manifest.batches]
    holders = {path.name: path.parents[2].name for path in stored}
    assert holders == {ref.digest: ref.run_id for ref in manifest.batches}
    assert len(manifest.to_bytes()) < 10 * 400 + 1000
    assert made.scorecard is not None
    assert made.scorecard["n_probes"]["retention"] == 10


def test_edits_files_together_are_one_batch(
    bench: Bench, write_edits: Write, tmp_path: Path
) -> None:
    csv = tmp_path / "more.csv"
    csv.write_text("prompt,target,colour\nWhere is the film?,Oslo,red\n")
    reporter = Recorder()
    made = bench.apply(write_edits((BOOK, "Rome")), csv, reporter=reporter)
    assert (made.n_batches, made.n_edits) == (1, 2)
    assert reporter.warnings == ["fields that mean nothing here: colour"]
    assert made.message.startswith("2 edits: Where is the book?")


LONG = "Where is the book? " * 60


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        ('{"prompt": "a", "target"}\n', InvalidEdit, "line 1"),
        ('{"prompt": "a", "target": "b"}\n{"prompt": "a"}\n', InvalidEdit, "line 2: target"),
        ("", InvalidEdit, "empty"),
        ("\n \n", InvalidEdit, "empty"),
        ('{"prompt": "a", "target": "  "}\n', InvalidEdit, "target"),
        (f'{{"prompt": "{LONG}", "target": "b"}}\n', InvalidEdit, "tokens"),
        (f'{{"prompt": "a", "target": "{LONG}"}}\n', InvalidEdit, "target"),
        (f'{{"prompt": "a", "target": "b", "rephrases": ["{LONG}"]}}\n', InvalidEdit, "rephrases"),
        (f'{{"prompt": "a", "target": "b", "locality": ["{LONG}"]}}\n', InvalidEdit, "locality"),
        ('{"prompt": "a", "target": "sports", "kind": "label"}\n', InvalidEdit, "kind"),
        (
            '{"prompt": "a", "target": "b"}\n{"prompt": "A ", "target": "c"}\n',
            InvalidEdit,
            "line 2",
        ),
    ],
)
def test_bad_edits_are_refused_before_learning(
    bench: Bench, tmp_path: Path, content: str, error: type[MlflowEditError], says: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(content)
    reporter = Recorder()
    with pytest.raises(error, match=says) as raised:
        bench.apply(file, reporter=reporter)
    assert raised.value.exit_code == 2
    assert bench.count() == 1
    assert not any(stage.startswith(("measuring", "registering")) for stage in reporter.stages)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"editor": "grase"}, UnknownEditor),
        ({"params": {"radius": "-1"}}, InvalidParams),
        ({"params": {"colour": "red"}}, InvalidParams),
        ({"params": {"max_steps": "many"}}, InvalidParams),
        ({"parent": "7"}, VersionNotFound),
        ({"parent": "production"}, VersionNotFound),
        ({"author": "x" * 501}, InvalidInputError),
        ({"author": "Ada\udcff"}, InvalidInputError),
        ({"message": "x" * 20_001}, InvalidInputError),
        ({"message": "nul\x00"}, InvalidInputError),
        ({"params": {"max_steps": "1", "loss_target": "0.0001"}}, NotConverged),
    ],
)
def test_bad_settings_register_nothing(
    bench: Bench, write_edits: Write, options: dict[str, Any], error: type[MlflowEditError]
) -> None:
    with pytest.raises(error):
        bench.apply(write_edits((BOOK, "Rome")), **options)
    assert bench.count() == 1


def test_no_edit_learned_names_the_edits(bench: Bench, write_edits: Write) -> None:
    file = write_edits({"prompt": BOOK, "target": "Rome", "id": "one"})
    with pytest.raises(NotConverged) as raised:
        bench.apply(file, params={"max_steps": "1", "loss_target": "0.0001"})
    assert raised.value.edits == ("one",)
    assert raised.value.exit_code == 8
    tries = "Try more steps (max_steps=3) or another layer (layer=12), with --param."
    assert raised.value.hint == tries


@pytest.mark.parametrize(
    ("editor", "settings"),
    [
        ("finetune", {"max_steps", "layers"}),
        ("ultraedit", {"max_rounds", "layers"}),
        ("memory", {"max_steps", "layer"}),
    ],
)
def test_what_to_try_next_are_settings_of_the_editor(editor: str, settings: set[str]) -> None:
    params = find_editor(editor, {}).params
    hinted = set(re.findall(r"(\w+)=", _what_to_try(params)))
    assert hinted == settings <= set(params.model_dump())


@pytest.mark.parametrize("name", ["no such.jsonl", "folder.jsonl", "latin.jsonl", "edits.txt"])
def test_files_that_cannot_be_read(bench: Bench, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "Où?", "target": "x"}'.encode("latin-1"))
    (tmp_path / "edits.txt").write_text("{}")
    with pytest.raises(InvalidEdit) as raised:
        bench.apply(tmp_path / name)
    assert raised.value.exit_code == 2
    assert bench.count() == 1


def test_a_damaged_parent_is_not_built_on(bench: Bench, write_edits: Write) -> None:
    made = bench.apply(write_edits((BOOK, "Rome")))
    assert made.batch is not None
    files = bench.registry.files[made.batch.digest]
    files["patch.safetensors"] = files["patch.safetensors"][:-1] + b"\x01"
    with pytest.raises(IntegrityError):
        bench.apply(write_edits((FILM, "Oslo")))
    with pytest.raises(IntegrityError):
        load("m", registry=bench.registry)
    assert bench.count() == 2


@pytest.mark.parametrize("stage", ["loading", "learning", "measuring", "registering"])
def test_an_interruption_registers_nothing(bench: Bench, write_edits: Write, stage: str) -> None:
    def interrupt(text: str) -> None:
        if text.startswith(stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.apply(write_edits((BOOK, "Rome")), reporter=Recorder(interrupt))
    assert bench.count() == 1
    assert bench.apply(write_edits((BOOK, "Rome"))).version == 2


def test_nothing_is_asked_of_the_store_once_the_version_is_visible(
    bench: Bench, write_edits: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bench.registry.publish

    def publish_and_die(draft: Any) -> Any:
        info = real(draft)

        def dead(*_: object) -> Any:
            raise RegistryError("the store is gone")

        for name in ("manifest", "scorecard", "batch", "versions", "document"):
            monkeypatch.setattr(bench.registry, name, dead)
        return info

    monkeypatch.setattr(bench.registry, "publish", publish_and_die)
    made = bench.apply(write_edits((BOOK, "Rome")))
    assert (made.version, made.n_edits) == (2, 1)
    assert made.batch is not None


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let what is measured say that a share of the edits is answered."""

    def measured(share: float) -> None:
        def try_out(*args: Any, **options: Any) -> Trial:
            trial = measuring.try_out(*args, **options)
            card = trial.evaluation.scorecard.model_copy(update={"retention": share})
            return replace(trial, evaluation=Evaluation(card, trial.evaluation.results))

        monkeypatch.setattr("mlflow_edit.operations.apply.try_out", try_out)

    return measured


def test_a_version_that_forgets_says_so(
    bench: Bench, write_edits: Write, forgetful: Callable[[float], None]
) -> None:
    kept = bench.apply(write_edits((BOOK, "Rome")))
    assert not kept.warnings
    forgetful(0.85)
    reporter = Recorder()
    made = bench.apply(write_edits((FILM, "Oslo")), reporter=reporter)
    said = [text for text in made.warnings if "forgotten" in text]
    assert len(said) == 1
    assert "0.85" in said[0]
    assert "its parent 1.00" in said[0]
    assert reporter.warnings.count(said[0]) == 1
    forgetful(0.8)  # of .85: not a tenth less, but a slow decline is one
    assert any("0.80" in text for text in bench.apply(write_edits((RIVER, "Lima"))).warnings)
    forgetful(0.92)
    again = bench.apply(write_edits((BOOK, "Lima"))).warnings
    assert not [text for text in again if "forgotten" in text]


def test_a_version_that_moves_its_neighbours_says_so(
    bench: Bench, write_edits: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def try_out(*args: Any, **options: Any) -> Trial:
        trial = measuring.try_out(*args, **options)
        card = trial.evaluation.scorecard.model_copy(update={"locality": 0.25})
        return replace(trial, evaluation=Evaluation(card, trial.evaluation.results))

    monkeypatch.setattr("mlflow_edit.operations.apply.try_out", try_out)
    made = bench.apply(write_edits((BOOK, "Rome")))
    assert made.warnings == ("only 0.25 of neighbours are answered as before",)


def test_a_version_below_the_bound_is_not_registered(
    bench: Bench, write_edits: Write, forgetful: Callable[[float], None]
) -> None:
    forgetful(0.85)
    file = write_edits((BOOK, "Rome"))
    with pytest.raises(GateError, match=r"0\.850.*0\.9.*nothing was registered") as raised:
        bench.apply(file, min_retention=0.9)
    assert [check.threshold for check in raised.value.failures] == [0.9]
    assert bench.count() == 1
    assert bench.apply(file, min_retention=0.85).version == 2


@pytest.mark.parametrize("bound", [-0.1, 1.1, float("nan")])
def test_a_bound_that_is_no_share_is_refused(
    bench: Bench, write_edits: Write, bound: float
) -> None:
    with pytest.raises(InvalidInputError, match="min_retention"):
        bench.apply(write_edits((BOOK, "Rome")), min_retention=bound)
