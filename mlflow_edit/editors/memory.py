"""Memory: edits remembered by hidden state and read by soft attention, deferring to nothing near.

The *Memory* of Hartvigsen et al. 2023, "Aging with GRACE", arXiv:2211.11031, Table 1: GRACE with
its discrete search, and the radii that guard it, replaced by attention over all that is remembered.
A baseline: it shows what GRACE's radii are for.
"""

from collections.abc import Sequence
from typing import ClassVar

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.editor import Editor, Learning, Progress
from mlflow_edit.editors.remembering import RememberParams, remember
from mlflow_edit.models.architecture import Task, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.memory import Memory


class MemoryParams(RememberParams):
    """Settings of Memory."""


class MemoryEditor(Editor[MemoryParams]):
    """Remember one value for each edit, and read them together."""

    name: ClassVar[str] = "memory"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal", "seq2seq", "classifier"})
    params_type: ClassVar[type[MemoryParams]] = MemoryParams

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
        return remember(base, batch, site, self.params, progress, Memory)
