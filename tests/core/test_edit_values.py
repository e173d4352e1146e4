from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from strategies import batches, edit_fields

from mlflow_edit.core.edit import Edit, Probe, normal_text
from mlflow_edit.core.edit_batch import EditBatch, Problem
from mlflow_edit.core.edit_file import parse_edits
from mlflow_edit.core.text import MAX_TEXT, nfc
from mlflow_edit.errors import InvalidEdit


def edit(prompt: str = "Who?", target: str = "Ada", **fields: Any) -> Edit:
    return Edit.model_validate({"prompt": prompt, "target": target, **fields})


def problems_of(*edits: Edit) -> list[Problem]:
    with pytest.raises(InvalidEdit) as caught:
        EditBatch(edits)
    return [problem for problem in caught.value.problems if isinstance(problem, Problem)]


def test_an_edit_without_id_is_named_by_what_it_says() -> None:
    assert edit().id == edit(note="other").id
    assert edit().id.startswith("e-")
    assert edit().id != edit(target="Eve").id
    assert edit(id="mine").id == "mine"
    assert edit(id="").id == edit(id=None).id == edit().id


@given(edit_fields())
def test_the_digest_knows_no_order_of_fields(fields: dict[str, Any]) -> None:
    turned = {name: fields[name] for name in reversed(fields)}
    assert Edit.model_validate(turned).digest == Edit.model_validate(fields).digest


@given(edit_fields())
def test_every_field_counts_in_the_digest(fields: dict[str, Any]) -> None:
    made = Edit.model_validate(fields)
    for name in ("id", "prompt", "target", "subject", "old", "source", "author", "note"):
        changed = Edit.model_validate({**fields, name: f"{fields.get(name, '')}x"})
        assert changed.digest != made.digest, name
    assert Edit.model_validate({**fields, "rephrases": ["new"]}).digest != made.digest
    assert Edit.model_validate({**fields, "locality": ["new"]}).digest != made.digest


@given(edit_fields())
def test_an_edit_is_read_back_as_it_was(fields: dict[str, Any]) -> None:
    made = Edit.model_validate(fields)
    assert Edit.model_validate_json(made.model_dump_json()) == made


TEXT_FIELDS = ["prompt", "target", "subject", "old", "source", "author", "note"]


@pytest.mark.parametrize("field", [*TEXT_FIELDS, "id"])
def test_text_is_kept_in_one_unicode_form(field: str) -> None:
    assert getattr(edit(**{field: "Zoe\u0301"}), field) == "Zoé"
    assert edit(**{field: "Zoe\u0301"}) == edit(**{field: "Zoé"})


@pytest.mark.parametrize("field", [*TEXT_FIELDS, "id"])
@pytest.mark.parametrize("bad", ["\ud800", "a\x00b", "x" * (MAX_TEXT + 1), 5, ["a"], {}])
def test_unreadable_text_is_refused(field: str, bad: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        edit(**{field: bad})
    assert {error["loc"] for error in caught.value.errors()} == {(field,)}


@pytest.mark.parametrize("field", ["prompt", "target", "subject"])
@pytest.mark.parametrize("empty", ["", " ", "\n\t", "\u00a0"])
def test_text_that_says_nothing_is_refused(field: str, empty: str) -> None:
    with pytest.raises(ValidationError):
        edit(**{field: empty})


@pytest.mark.parametrize(
    "bad", ["a b", "a\n", "\x1b[31m", "\x7f", "\x9b", "a\u202eb", "\u2028", "x" * 201, "\u2067x"]
)
def test_an_id_is_one_word_without_control_characters(bad: str) -> None:
    with pytest.raises(ValidationError):
        edit(id=bad)


def test_a_long_id_is_measured_as_it_is_kept() -> None:
    grows = "\u0958" * 150  # two characters each in form NFC
    with pytest.raises(ValidationError):
        edit(id=grows)


def test_a_probe_may_be_written_as_text() -> None:
    assert edit(locality=["What?"]).locality == (Probe(prompt="What?"),)
    with pytest.raises(ValidationError):
        edit(locality=[{"prompt": "What?", "more": 1}])


@given(st.text())
def test_normal_text_is_idempotent_enough_to_compare(text: str) -> None:
    assert normal_text(f"  {text}\n") == normal_text(text)
    assert normal_text(nfc(text)) == normal_text(text)


def test_labels_agree_by_kind_and_normal_target() -> None:
    assert edit(target="Ada  Lovelace").label_digest == edit(target="ADA lovelace").label_digest
    assert edit(target="Ada").label_digest != edit(target="Eve").label_digest
    assert edit(kind="label").label_digest != edit(kind="fact").label_digest


@given(batches(), st.randoms(use_true_random=False))
def test_the_digest_of_a_batch_knows_no_order(batch: EditBatch, random: Any) -> None:
    shuffled = random.sample(batch.edits, len(batch))
    assert EditBatch(tuple(shuffled)).digest == batch.digest


@given(batches(min_size=1))
def test_a_batch_is_read_back_from_its_lines(batch: EditBatch) -> None:
    read = parse_edits(batch.to_jsonl().decode(), format="jsonl")
    assert read.batch == batch
    assert read.batch.digest == batch.digest
    assert read.batch.to_jsonl() == batch.to_jsonl()


def test_a_subset_keeps_the_order_of_the_batch() -> None:
    batch = EditBatch(tuple(edit(f"q{i}", id=f"e{i}") for i in range(4)))
    assert [item.id for item in batch.subset(["e3", "e1", "none"])] == ["e1", "e3"]


def test_contradicting_prompts_name_both() -> None:
    (problem,) = problems_of(edit(id="a"), edit("WHO?  ", "Eve", id="b"))
    assert (problem.where, problem.field) == ("edit b", "prompt")
    assert "contradicts edit a" in problem.message
    assert "'Ada'" in problem.message
    assert "'Eve'" in problem.message


def test_a_rephrase_may_not_contradict_a_prompt_or_a_rephrase() -> None:
    (problem,) = problems_of(edit(id="a"), edit("Whom?", "Eve", id="b", rephrases=["who?"]))
    assert (problem.where, problem.field) == ("edit b", "rephrases")
    (problem,) = problems_of(
        edit("q1", "x", id="a", rephrases=["same"]), edit("q2", "y", id="b", rephrases=["Same"])
    )
    assert "contradicts edit a" in problem.message


def test_repeats_and_shared_ids_are_named() -> None:
    found = problems_of(edit(id="a"), edit("who?", "ADA", id="b"), edit("other", id="a"))
    assert [str(problem) for problem in found] == [
        "edit a: id: 'a' is already used by edit a",
        "edit b: prompt: repeats edit a",
    ]


def test_edits_that_agree_may_share_rephrases() -> None:
    assert len(EditBatch((edit(id="a", rephrases=["x"]), edit("Whom?", id="b", rephrases=["X"]))))
    assert len(EditBatch((edit(id="a", rephrases=["who?", "Who?"]),)))


def test_many_problems_are_counted_and_the_first_are_shown() -> None:
    with pytest.raises(InvalidEdit, match="30 problems in 31 edits") as caught:
        EditBatch(tuple(edit(id=f"e{i}") for i in range(31)))
    assert len(caught.value.problems) == 30
    assert "… and 10 more" in caught.value.message
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_a_problem_shows_no_control_characters() -> None:
    assert str(Problem("line 1", "\x1b[31m\ud800", "x")) == "line 1: \\x1b[31m\\ud800: x"
