"""A small editor of weights by hand, in closed form: what tests of versions with deltas learn by."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Outcome, Progress
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import answer_ids, prompt_ids
from mlflow_edit.patches.changes import LowRank
from mlflow_edit.patches.delta import Delta


class RankOneParams(EditorParams):
    """Which block, and how many steps of gradient descent for each edit."""

    layer: int = Field(1, ge=0)
    steps: int = Field(12, ge=0)


class RankOne(Editor[RankOneParams]):
    """Adds `V (K^T K + 1e-3 I)^-1 K^T` to a block's MLP: keys `K`, values `V` by gradient."""

    name: ClassVar[str] = "rank-one"
    tasks = frozenset({"causal"})
    params_type = RankOneParams

    def learn(self, base: BaseModel, batch: EditBatch, progress: Progress) -> Learning:
        path = f"model.layers.{self.params.layer}.mlp.down_proj"
        found = [self._value(base, path, edit) for edit in batch]
        keys = torch.stack([key for key, _ in found], 1)
        values = torch.stack([value for _, value in found], 1)
        inner = keys.T @ keys + 1e-3 * torch.eye(len(found))
        change = LowRank(f"{path}.weight", (values @ inner.inverse()).contiguous(), keys.T.clone())
        outcomes = tuple(Outcome(edit.id, True, 0.0, self.params.steps) for edit in batch)
        return Learning(Delta((change,), tuple(edit.id for edit in batch)), outcomes)

    def _value(self, base: BaseModel, path: str, edit: Edit) -> tuple[Tensor, Tensor]:
        prompt = prompt_ids(base, edit.prompt)
        answer = answer_ids(base, edit.target, prompt=edit.prompt)
        ids, at = torch.tensor([[*prompt, *answer[:-1]]]), len(prompt) - 1
        keys: list[Tensor] = []
        value = torch.zeros(base.model.config.hidden_size, requires_grad=True)

        def add(module: Any, args: Any, output: Tensor) -> Tensor:
            keys.append(args[0][0, at].detach().clone())
            changed = output.clone()
            changed[0, at] += value
            return changed

        handle = base.model.get_submodule(path).register_forward_hook(add)
        optimizer = torch.optim.Adam([value], lr=0.5)
        try:
            for _ in range(max(1, self.params.steps)):
                logits = base.model(input_ids=ids, use_cache=False).logits[0, at:]
                optimizer.zero_grad()
                cross_entropy(logits, torch.tensor(answer)).backward()
                optimizer.step()
        finally:
            handle.remove()
        return keys[0], value.detach()


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the editor be found by its name."""
    point = EntryPoint("rank-one", "rank_one:RankOne", "mlflow_edit.editors")

    def found(*, group: str) -> Any:
        return [*entry_points(group=group), point]

    monkeypatch.setattr("mlflow_edit.editors.catalog.entry_points", found)
