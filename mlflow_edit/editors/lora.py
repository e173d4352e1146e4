"""LoRA: fine-tune factors of low rank beside the weights, by the peft library.

Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685. The factors
are kept as they were trained; the model computes with their product added to the weights.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.contexts import Asking, askings, for_each
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Progress
from mlflow_edit.editors.judging import Verdicts, judge, settle
from mlflow_edit.editors.settings import blocks, loss_target, real, whole
from mlflow_edit.editors.training import Limits, Objective, train
from mlflow_edit.models.architecture import Task, block_modules
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.skeleton import skeleton_of
from mlflow_edit.patches.changes import Change, LowRank
from mlflow_edit.patches.substitution import canonical_name

ADAPTER = "default"
SEED = 0


class LoraParams(EditorParams):
    """Settings of LoRA."""

    layers: str | None = blocks(
        "blocks whose linear maps are adapted, such as `7`, `5-9` or `4,6`; unset: all"
    )
    rank: int = whole(8, "rank of the factors", le=1024)
    alpha: float = real(16.0, "the product is scaled by alpha / rank", gt=0, le=1e4)
    learning_rate: float = real(0.002, "Adam's step", gt=0, le=1)
    max_steps: int = whole(100, "steps before training ends", le=100_000)
    loss_target: float = loss_target(0.05)
    batch_size: int = whole(32, "edits of one step", le=4096)


class Lora(Editor[LoraParams]):
    """Train low-rank factors on the edits."""

    name: ClassVar[str] = "lora"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal", "seq2seq", "classifier"})
    params_type: ClassVar[type[EditorParams]] = LoraParams

    def learn(
        self,
        base: BaseModel,
        batch: EditBatch,
        progress: Progress,
        *,
        earlier: Sequence[Edit] = (),
    ) -> Learning:
        """Learn a batch (see `Editor.learn`)."""
        asked = for_each(batch, lambda edit: askings(base, edit, 1)[0])
        steps = [0] * len(asked)

        def solve(which: list[int]) -> tuple[Change, ...]:
            some = [asked[i] for i in which]
            changes, n_steps = self._adapt(base, some, len(asked), progress)
            for i in which:
                steps[i] = n_steps
            return changes

        def look(which: list[int], changes: tuple[Change, ...]) -> Verdicts:
            return judge(base, [asked[i] for i in which], changes)

        start = judge(base, asked).losses.nan_to_num(torch.finfo(torch.float32).max).tolist()
        return settle(batch.edits, steps, solve, look, start=start)

    def _adapt(
        self, base: BaseModel, asked: Sequence[Asking], n_edits: int, progress: Progress
    ) -> tuple[tuple[Change, ...], int]:
        params = self.params
        modules = block_modules(base.model, params.layers)
        model = _adapted(base, modules, params)
        trained = [p for p in model.parameters() if p.requires_grad]
        n_steps = train(
            base,
            model,
            [{"params": trained, "lr": params.learning_rate}],
            asked,
            Limits(params.max_steps, params.loss_target, params.batch_size),
            Objective(),
            lambda solved, loss: progress(solved, n_edits, loss),
        )
        changes = tuple(_change(base, path, model.get_submodule(path)) for path in modules)
        return changes, n_steps


def _adapted(base: BaseModel, modules: Sequence[str], params: LoraParams) -> Any:
    """Put fresh adapters on a copy of the model that shares its weights."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,
        target_modules=list(modules),
        fan_in_fan_out=isinstance(base.model.get_submodule(modules[0]), Conv1D),
        lora_dropout=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model: Any = inject_adapter_in_model(config, skeleton_of(base.model), adapter_name=ADAPTER)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.eval()


def _change(base: BaseModel, path: str, adapter: Any) -> LowRank:
    inward: Tensor = adapter.lora_A[ADAPTER].weight.detach().float().cpu().contiguous()
    outward: Tensor = adapter.lora_B[ADAPTER].weight.detach().float().cpu().contiguous()
    name, scale = canonical_name(base.model, f"{path}.weight"), float(adapter.scaling[ADAPTER])
    if adapter.fan_in_fan_out:  # the weight is stored transposed
        return LowRank(name, inward.T.contiguous(), outward.T.contiguous(), scale)
    return LowRank(name, outward, inward, scale)
