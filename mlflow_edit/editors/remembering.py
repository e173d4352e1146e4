"""What editors share that remember edits: values as GRACE's, read as a memory reads them."""

from collections.abc import Callable
from math import isfinite

import torch

from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.contexts import askings, for_each
from mlflow_edit.editors.editor import EditorParams, Learning, Outcome, Progress
from mlflow_edit.editors.entry_learning import Job, learn_entries
from mlflow_edit.editors.hidden_entries import HiddenKeys, hidden_codebook
from mlflow_edit.editors.judging import judge
from mlflow_edit.editors.settings import blocks, loss_target, real, whole
from mlflow_edit.editors.value_learning import Search
from mlflow_edit.models.architecture import Site
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.memory import Memory

DTYPE = torch.float16
FAR = torch.finfo(torch.float32).max  # the loss of what is not a number


class RememberParams(EditorParams):
    """Settings of editors that remember edits."""

    layer: str | None = blocks(
        "block to edit: its number, or its path in a model of unknown family"
    )
    relative_radius: float = real(
        0.7,
        "how far off an edit is thought of, as a share of the median distance between unrelated "
        "questions",
        gt=0,
        le=100,
    )
    learning_rate: float = real(
        0.25, "Adam's step, in units of the RMS of the block's output", gt=0, le=10
    )
    max_steps: int = whole(100, "steps before an edit is given up", le=10_000)
    loss_target: float = loss_target(0.05)


def remember(
    base: BaseModel,
    batch: EditBatch,
    site: Site,
    params: RememberParams,
    progress: Progress,
    form: Callable[..., Memory],
) -> Learning:
    """Learn a value for each edit, and keep those that answer when all that are kept are read.

    Args:
        base: the base model.
        batch: what is to be learned.
        site: the block that is edited.
        params: settings.
        progress: is told how far it is.
        form: makes the memory of its parts.

    Raises:
        InvalidEdit: an edit cannot be put to this model.
        UnsupportedModel: as `upper_blocks.prepare`.
    """
    asked = for_each(batch, lambda edit: askings(base, edit, 1)[:1])
    jobs = [Job(i, edit, asked[i], 1) for i, edit in enumerate(batch)]
    search = Search(params.learning_rate, params.max_steps, params.loss_target, DTYPE)
    entries = learn_entries(base, site, jobs, search, progress)
    solved = [entry for entry in entries if entry.solved]
    memory = hidden_codebook(
        base,
        site,
        [entry.edit for entry in solved],
        [entry.learned.values.to(DTYPE) for entry in solved],
        HiddenKeys.of([(e.key, e.token) for e in solved], width=len(entries[0].key)),
        radius=params.relative_radius,
        relative=True,
        form=form,
    )
    losses = [entry.outcome.loss for entry in entries]
    kept = [i for i, entry in enumerate(entries) if entry.solved]
    while kept:
        with memory.attach(base.model):
            verdicts = judge(base, [asked[i][0] for i in kept])
        for i, loss in zip(kept, verdicts.losses.tolist(), strict=True):
            losses[i] = loss if isfinite(loss) else FAR
        if verdicts.right.all():
            break
        left = {i for i, right in zip(kept, verdicts.right.tolist(), strict=True) if not right}
        memory = memory.without_edits(frozenset(entries[i].edit.id for i in left))
        kept = [i for i in kept if i not in left]
    return Learning(
        memory,
        tuple(
            Outcome(entry.edit.id, i in kept, losses[i], entry.outcome.steps)
            for i, entry in enumerate(entries)
        ),
    )
