"""The laws of every editor: subclass `EditorContract` and say which editor and which bases.

A third-party editor is held to the same laws by the same class.
"""

from typing import Any, ClassVar

import pytest
import torch
from tiny_edits import PROMPTS, UNRELATED, batch_for, edited_with, silent
from tiny_models import weights_hash

from mlflow_edit.core.answers import is_hit
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.editors.editor import Editor, EditorParams, Learning
from mlflow_edit.errors import InvalidEdit, InvalidParams
from mlflow_edit.evaluation.generation import Answer, generate_answers
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.format import patch_digest, read_patch, write_patch

LEARNED: dict[tuple[str, str, str], Learning] = {}


class EditorContract:
    """What is asked of an editor called `editor_name`, on `base`."""

    editor_name: ClassVar[str]
    params: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def base(self) -> BaseModel:
        """Return the base model that is edited."""
        raise NotImplementedError

    @pytest.fixture
    def editor(self, base: BaseModel) -> Editor[Any]:
        made = find_editor(self.editor_name, self.params)
        if base.task not in made.tasks:
            pytest.skip(f"{self.editor_name} does not edit models of the task {base.task}")
        return made

    def learned(self, editor: Editor[Any], base: BaseModel) -> Learning:
        """Learn the batch, once for all the tests that only look at what came of it."""
        key = (self.editor_name, repr(self.params), base.digest)
        if key not in LEARNED:
            LEARNED[key] = editor.learn(base, batch_for(base), silent)
        return LEARNED[key]

    def answers(self, base: BaseModel, learning: Learning, prompts: list[str]) -> list[Answer]:
        with edited_with(base, learning.patch) as edited:
            return generate_answers(edited, prompts, max_new_tokens=12)

    def test_every_edit_has_an_outcome(self, editor: Editor[Any], base: BaseModel) -> None:
        outcomes = self.learned(editor, base).outcomes
        assert [outcome.edit_id for outcome in outcomes] == [edit.id for edit in batch_for(base)]
        for outcome in outcomes:
            assert outcome.loss >= 0
            assert outcome.steps >= 0

    def test_what_is_solved_is_answered(self, editor: Editor[Any], base: BaseModel) -> None:
        learning = self.learned(editor, base)
        assert sum(outcome.solved for outcome in learning.outcomes) >= 3
        answers = self.answers(base, learning, PROMPTS)
        for edit, outcome, answer in zip(batch_for(base), learning.outcomes, answers, strict=True):
            if outcome.solved:
                target = "business" if edit.target == "2" else edit.target
                if learning.patch.kind != "delta":  # weights do not tell which edit answers
                    assert answer.fired is not None
                    assert answer.fired.edit_id == edit.id
                assert is_hit(answer.text, [target])

    def test_the_answer_ends(self, editor: Editor[Any], base: BaseModel) -> None:
        learning = self.learned(editor, base)
        if base.task == "classifier":
            return
        for edit, outcome, answer in zip(
            batch_for(base), learning.outcomes, self.answers(base, learning, PROMPTS), strict=True
        ):
            if outcome.solved:
                assert answer.text == edit.target

    def test_the_base_is_bit_identical_afterwards(
        self, editor: Editor[Any], base: BaseModel
    ) -> None:
        before = weights_hash(base.model)
        editor.learn(base, batch_for(base, n=2), silent)
        assert weights_hash(base.model) == before
        assert_untouched(base)

    def test_equal_input_gives_an_equal_patch(self, editor: Editor[Any], base: BaseModel) -> None:
        first = self.learned(editor, base)
        torch.manual_seed(12345)
        torch.randn(7)
        second = find_editor(self.editor_name, self.params).learn(base, batch_for(base), silent)
        assert patch_digest(first.patch) == patch_digest(second.patch)
        assert first.outcomes == second.outcomes

    def test_the_patch_can_be_stored(self, editor: Editor[Any], base: BaseModel) -> None:
        patch = self.learned(editor, base).patch
        assert read_patch(write_patch(patch), digest=patch_digest(patch)) == patch

    def test_nothing_is_kept_between_calls(self, editor: Editor[Any], base: BaseModel) -> None:
        batch = batch_for(base)
        editor.learn(base, batch.subset(["e2", "e3"]), silent)
        again = editor.learn(base, batch.subset(["e0"]), silent)
        fresh = find_editor(self.editor_name, self.params).learn(base, batch.subset(["e0"]), silent)
        assert patch_digest(again.patch) == patch_digest(fresh.patch)

    def test_ids_are_all_that_ties_the_patch_to_the_edits(
        self, editor: Editor[Any], base: BaseModel
    ) -> None:
        learning = self.learned(editor, base)
        solved = {outcome.edit_id for outcome in learning.outcomes if outcome.solved}
        assert set(learning.patch.edit_ids) <= solved  # type: ignore[attr-defined]

    def test_unrelated_prompts_are_answered_as_before(
        self, editor: Editor[Any], base: BaseModel
    ) -> None:
        learning = self.learned(editor, base)
        if learning.patch.kind == "delta":
            pytest.skip("weights answer everywhere; what that costs is measured, not promised")
        with edited_with(base) as plain:
            before = generate_answers(plain, UNRELATED, max_new_tokens=12)
        after = self.answers(base, learning, list(UNRELATED))
        for old, new in zip(before, after, strict=True):
            assert new.fired is not None or new.text == old.text

    def test_an_edit_that_cannot_be_put_is_named(
        self, editor: Editor[Any], base: BaseModel
    ) -> None:
        limit = base.context_length
        if limit > 10_000:
            pytest.skip("the model reads anything")
        good = batch_for(base).edits[0]
        bad = Edit(id="too-long", prompt="Paris " * limit, target=good.target)
        with pytest.raises(InvalidEdit) as caught:
            editor.learn(base, EditBatch((good, bad)), silent)
        assert "too-long" in caught.value.message
        assert "e0" not in caught.value.message
        assert len(caught.value.problems) == 1
        assert_untouched(base)

    def test_progress_is_told(self, editor: Editor[Any], base: BaseModel) -> None:
        told: list[tuple[int, int, float]] = []
        editor.learn(base, batch_for(base), lambda *seen: told.append(seen))
        assert told
        assert {total for _, total, _ in told} == {len(PROMPTS)}
        assert all(0 <= solved <= total for solved, total, _ in told)

    def test_an_interruption_leaves_the_base_as_it_was(
        self, editor: Editor[Any], base: BaseModel
    ) -> None:
        before = weights_hash(base.model)

        def interrupt(solved: int, total: int, loss: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            editor.learn(base, batch_for(base), interrupt)
        assert weights_hash(base.model) == before
        assert_untouched(base)

    def test_parameters_have_defaults_and_descriptions(self, editor: Editor[Any]) -> None:
        assert issubclass(editor.params_type, EditorParams)
        assert editor.name == self.editor_name
        for field in editor.params_type.model_fields.values():
            assert not field.is_required()
            assert field.description

    def test_an_unknown_parameter_is_refused(self, editor: Editor[Any]) -> None:
        with pytest.raises(InvalidParams, match="no_such_thing"):
            find_editor(self.editor_name, {"no_such_thing": 1})


def assert_untouched(base: BaseModel) -> None:
    """Check that no hook, replaced forward or gradient is left on the model."""
    assert not base.model.training
    for module in base.model.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for parameter in base.model.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
