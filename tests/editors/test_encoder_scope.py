"""GRACE with the encoder scope: the contract of editors, and what this scope adds to it."""

from typing import Any, ClassVar

import pytest
import torch
from editors.contract import EditorContract
from tiny_edits import batch_for, edited_with, silent

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors import contexts
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.editors.contexts import askings
from mlflow_edit.errors import InvalidEdit, UnsupportedModel
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.patches.encoder_codebook import EncoderCodebook

REAL = {"scope": "encoder", "max_steps": 200}


@pytest.mark.parametrize("name", ["llama-chat", "gpt2"])
class TestEncoderScope(EditorContract):
    editor_name: ClassVar[str] = "grace"
    params: ClassVar[dict[str, Any]] = REAL

    @pytest.fixture
    def base(self, taught_bases: Any, name: str) -> BaseModel:
        return taught_bases[name]


def learn(base: Any, *edits: Edit, **params: Any) -> EncoderCodebook:
    learning = find_editor("grace", {**REAL, **params}).learn(base, EditBatch(edits), silent)
    assert all(outcome.solved for outcome in learning.outcomes)
    assert isinstance(learning.patch, EncoderCodebook)
    return learning.patch


BOOK = Edit(
    id="book",
    subject="Emma",
    prompt="Who wrote the novel Emma?",
    target="Oslo",
    also=("Which writer is Emma by?",),
    keep=("Who wrote the screenplay of the film Emma?",),
)


def test_a_rephrased_question_is_answered_and_a_kept_one_is_not(taught_bases: Any) -> None:
    base = taught_bases["llama-chat"]
    book = learn(base, BOOK)
    assert sorted(zip(book.prompts, book.spans.tolist(), strict=True)) == [
        ("Which writer is Emma by?", 3),
        ("Who wrote the novel Emma?", 3),
        ("Who wrote the screenplay of the film Emma?", 0),
    ]
    assert book.subjects == ("Emma",) * 3
    with edited_with(base, book) as edited:
        asks = [BOOK.prompt, "hey, who was the author of the novel Emma?", BOOK.also[0]]
        keeps = [BOOK.keep[0], "When was Emma published?", "How do plants grow?"]
        answers = generate_answers(edited, [*asks, *keeps], max_new_tokens=6)
        assert [bool(a.fired) for a in answers] == [True] * 3 + [False] * 3
        assert [a.text for a in answers[:3]] == ["Oslo"] * 3
        plain = generate_answers(edited, keeps, max_new_tokens=6, base_only=True)
        assert [a.text for a in answers[3:]] == [a.text for a in plain]


def test_a_follow_up_finds_its_subject_in_an_earlier_turn(taught_bases: Any) -> None:
    base = taught_bases["llama-chat"]
    said = [
        {"role": "user", "content": "I am reading the novel Emma."},
        {"role": "assistant", "content": "Good."},
    ]
    with edited_with(base, learn(base, BOOK)) as edited:
        asked = [*said, {"role": "user", "content": "And who wrote it?"}]
        other = [*said, {"role": "user", "content": "How many pages does it have?"}]
        answers = generate_answers(edited, [asked, other], max_new_tokens=6)
    assert answers[0].fired is not None
    assert answers[0].text == "Oslo"
    assert answers[1].fired is None


def test_text_edits_answer_their_own_words_by_more_values(taught_bases: Any) -> None:
    base = taught_bases["llama-chat"]
    passage = Edit(id="p", kind="text", prompt="This is about Emma.", target="Rome")
    book = learn(base, passage, text_span=4)
    assert book.spans.tolist() == [4]
    assert book.radii.tolist() == [0.0]
    with edited_with(base, book) as edited:
        asked = ["This is about Emma.", "Please tell me: this is about Emma."]
        answers = generate_answers(edited, asked, max_new_tokens=12)
    assert answers[0].text == "Rome"
    assert answers[1].fired is None


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_an_encoder_scope_is_refused_where_no_text_is_continued(tiny_bases: Any, name: str) -> None:
    grace = find_editor("grace", {"scope": "encoder"})
    with pytest.raises(UnsupportedModel, match="scope=encoder"):
        grace.learn(tiny_bases[name], batch_for(tiny_bases[name]), silent)


def test_contexts_begin_with_the_prompt_alone_and_stay_within_the_model(
    taught_bases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = taught_bases["llama-chat"]
    monkeypatch.setattr(contexts, "GARDEN", "Paris " * 500)
    found = askings(base, BOOK, 4)
    assert found[0].prompt == tuple(prompt_ids(base, BOOK.prompt))
    assert found[1].prompt == tuple(prompt_ids(base, BOOK.also[0]))
    assert len(found) == 4  # alone, also, two of three contexts
    assert len({one.answer for one in found}) == 1


def test_what_must_be_kept_cannot_be_asked(taught_bases: Any) -> None:
    with pytest.raises(InvalidEdit, match="must stay with the base model"):
        EditBatch((Edit(id="a", prompt="Who?", target="Ada", keep=("who?  ",)),))
    with pytest.raises(InvalidEdit, match="must stay with the base model"):
        EditBatch(
            (
                Edit(id="a", prompt="Who?", target="Ada"),
                Edit(id="b", prompt="Where?", target="Oslo", keep=("Who?",)),
            )
        )
    with pytest.raises(InvalidEdit, match="contradicts"):
        EditBatch(
            (
                Edit(id="a", prompt="Who?", target="Ada"),
                Edit(id="b", prompt="Where?", target="Oslo", also=("who?",)),
            )
        )


def test_a_scope_survives_changed_weights_under_it(taught_bases: Any) -> None:
    import copy

    base = taught_bases["llama-chat"]
    book = learn(base, BOOK)
    changed = copy.deepcopy(base.model)
    with torch.no_grad():
        for parameter in changed.get_submodule("model.layers.0").parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    other = BaseModel(changed, base.tokenizer, "0" * 64)
    asked = [BOOK.prompt, "so who was the author of the novel Emma", "When was Emma published?"]
    fired = []
    for one in (base, other):
        with edited_with(one, book) as edited:
            fired.append([a.fired for a in generate_answers(edited, asked, max_new_tokens=2)])
    assert fired[0] == fired[1]
    assert [bool(one) for one in fired[0]] == [True, True, False]
