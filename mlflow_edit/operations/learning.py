"""Let an editor learn a batch, after all that could be wrong with it was looked at."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch, Problem, invalid_edits
from mlflow_edit.core.results import Unsolved
from mlflow_edit.core.text import counted
from mlflow_edit.editors.editor import Editor, EditorParams, Learning
from mlflow_edit.errors import InvalidInputError, NotConverged, UnsupportedModel
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.operations.edit_source import EditSource
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.patches.weights import Weights
from mlflow_edit.registry.stored_batch import StoredBatch

SHOWN_EDITS = 10


def edits_for(source: EditSource, base: BaseModel) -> EditBatch:
    """Give edits that name no kind the one that the base model's task asks for.

    Raises:
        InvalidEdit: an edit is of a kind that this model cannot learn, or a probe does not fit it.
    """
    label = base.task == "classifier"
    batch = source.parse(kind="label" if label else "fact").batch
    model = type(base.model).__name__
    problems = [
        Problem(f"edit {edit.id}", "kind", f"{edit.kind!r} edits cannot be made to a {model}")
        for edit in batch
        if (edit.kind == "label") != label
    ]
    problems += [problem for edit in batch for problem in _misfits(edit, base)]
    if problems:
        raise invalid_edits(problems, n_edits=len(batch))
    return batch


def _misfits(edit: Edit, base: BaseModel) -> Iterator[Problem]:
    """Name the texts that cannot be put to the model; the editor looks at prompt and target."""
    probes = [("also", text) for text in edit.also] + [("keep", text) for text in edit.keep]
    probes += [("rephrases", text) for text in edit.rephrases]
    probes += [("locality", probe.prompt) for probe in edit.locality]
    probes += [("portability", probe.prompt) for probe in edit.portability]
    for field, prompt in probes:
        try:
            prompt_ids(base, prompt)
        except InvalidInputError as error:
            yield Problem(f"edit {edit.id}", field, error.message)


def learn(
    editor: Editor[Any],
    base: BaseModel,
    batch: EditBatch,
    reporter: Reporter,
    *,
    below: Weights | None = None,
    earlier: Sequence[Edit] = (),
) -> tuple[StoredBatch, tuple[Unsolved, ...]]:
    """Learn a batch; return what was learned, and the edits that were not.

    Args:
        editor: the algorithm.
        base: the base model.
        batch: the edits.
        reporter: is told what is being done.
        below: the deltas on top of which it is learned: they are in force meanwhile.
        earlier: the edits of those deltas.

    Raises:
        NotConverged: none was learned.
        InvalidEdit, UnsupportedModel: as `Editor.learn`.
    """
    if base.task not in editor.tasks:
        raise UnsupportedModel(f"the editor {editor.name!r} does not edit {base.task} models")
    reporter.stage(f"learning {counted(len(batch), 'edit')} with {editor.name}")

    def progress(solved: int, total: int, loss: float) -> None:
        reporter.progress(solved, total, f"loss {loss:.3f}")

    with below.attach(base.model) if below else nullcontext():
        learning = editor.learn(base, batch, progress, earlier=earlier)
    solved = [outcome.edit_id for outcome in learning.outcomes if outcome.solved]
    unsolved = _unsolved(batch, learning)
    for edit in unsolved:
        reporter.warn(f"not learned: {edit.edit_id} ({edit.prompt!r}), loss {edit.loss:.2f}")
    if not solved:
        raise NotConverged(
            f"none of the {len(batch)} edits could be learned; nothing was registered: "
            + ", ".join(f"{edit.edit_id} (loss {edit.loss:.2f})" for edit in unsolved[:SHOWN_EDITS])
            + (" …" if len(unsolved) > SHOWN_EDITS else ""),
            edits=[edit.edit_id for edit in unsolved],
            hint=_what_to_try(editor.params),
        )
    stored = StoredBatch.of(
        base=base.digest,
        editor=editor.name,
        params=editor.params.model_dump(mode="json"),
        edits=batch.subset(solved),
        patch=learning.patch,
        context=below.batches if below else (),
    )
    return stored, unsolved


def _what_to_try(params: EditorParams) -> str:
    """Name settings that this editor has and that may let it learn more."""
    given = params.model_dump()
    longer = [f"{name}={3 * given[name]}" for name in ("max_steps", "max_rounds") if name in given]
    elsewhere = {"layer": "another layer (layer=12)", "layers": "other layers (layers=10-12)"}
    tries = [f"more steps ({one})" for one in longer]
    tries += [said for name, said in elsewhere.items() if name in given]
    return f"Try {' or '.join(tries)}, with --param." if tries else "Try another editor."


def _unsolved(batch: EditBatch, learning: Learning) -> tuple[Unsolved, ...]:
    by_id = {edit.id: edit for edit in batch}
    return tuple(
        Unsolved(
            edit_id=outcome.edit_id,
            prompt=by_id[outcome.edit_id].prompt,
            target=by_id[outcome.edit_id].target,
            loss=outcome.loss,
            steps=outcome.steps,
        )
        for outcome in learning.outcomes
        if not outcome.solved
    )
