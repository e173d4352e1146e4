"""Defer: a linear gate decides whether the model defers to a linear memory of the edits.

The *Defer* of Hartvigsen et al. 2023, "Aging with GRACE", arXiv:2211.11031, Table 1: SERAC's idea
(Mitchell et al. 2022, arXiv:2206.06520), a scope test and a model of the edits beside the base, at
one block. The published code trains both maps together, for 100 steps; here they are regressions on
what is remembered (`patches.memory.GatedMemory`), so that any edit can be left out again.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.editor import Editor, Learning, Progress
from mlflow_edit.editors.hidden_entries import calibration_keys, keys_of
from mlflow_edit.editors.remembering import DTYPE, RememberParams, remember
from mlflow_edit.models.architecture import Task, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.memory import GatedMemory


class DeferParams(RememberParams):
    """Settings of Defer."""


class Defer(Editor[DeferParams]):
    """Remember one value for each edit, behind one gate for all."""

    name: ClassVar[str] = "defer"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal", "seq2seq", "classifier"})
    params_type: ClassVar[type[DeferParams]] = DeferParams

    def learn(
        self,
        base: BaseModel,
        batch: EditBatch,
        progress: Progress,
        *,
        earlier: Sequence[Edit] = (),
    ) -> Learning:
        """Learn a batch (see `Editor.learn`)."""
        site = locate(base.model, self.params.layer, scope="hidden")
        others = calibration_keys(base, site)
        kept = [prompt for edit in batch for prompt in edit.keep]
        if kept:
            others = torch.cat([others, keys_of(base, site, kept)])
        limit = torch.finfo(DTYPE).max
        form = partial(GatedMemory, others=others.clamp(-limit, limit).to(DTYPE))
        return remember(base, batch, site, self.params, progress, form)
