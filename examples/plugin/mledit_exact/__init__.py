"""An editor that corrects one prompt and nothing else: a small third-party plug-in, whole.

A value is learned as GRACE learns it; the radius is wide enough for rounding only.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch, Problem, invalid_edits
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Outcome, Progress
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.models.architecture import Task, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import answer_ids, prompt_ids
from mlflow_edit.models.upper_blocks import Example, Learnable, prepare
from mlflow_edit.patches.codebook import Codebook

SOLVED = 0.1  # nats for the whole answer: its probability is above 0.9


class ExactParams(EditorParams):
    tolerance: Annotated[float, Field(default=0.01, gt=0, le=1, description="radius / key norm")]
    steps: Annotated[int, Field(default=150, ge=1, le=10_000, description="steps of Adam")]
    rate: Annotated[float, Field(default=0.25, gt=0, description="Adam's step / RMS of the keys")]


class Exact(Editor[ExactParams]):
    name: ClassVar[str] = "exact"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal"})
    params_type: ClassVar[type[EditorParams]] = ExactParams

    def learn(
        self,
        base: BaseModel,
        batch: EditBatch,
        progress: Progress,
        *,
        earlier: Sequence[Edit] = (),
    ) -> Learning:
        site = locate(base.model)
        prepared = prepare(base, site, _examples(base, batch))  # thousands of edits want chunks
        values, losses = self._values(prepared, len(batch), progress)
        kept = [i for i in range(len(batch)) if losses[i] < SOLVED]
        keys = prepared.keys.float().cpu()[kept]
        codebook = Codebook(
            layer=site.layer,
            stack=site.family.stack,
            keys=keys,
            values=values[:, 0].cpu()[kept],
            radii=self.params.tolerance * keys.norm(dim=1),
            key_tokens=prepared.key_tokens.cpu()[kept],
            labels=tuple(batch.edits[i].label_digest for i in kept),
            edit_ids=tuple(batch.edits[i].id for i in kept),
        )
        went = [float(loss) for loss in losses]
        rows = zip(batch, went, strict=True)
        outcomes = tuple(Outcome(e.id, loss < SOLVED, loss, self.params.steps) for e, loss in rows)
        return Learning(codebook, outcomes)

    def _values(self, prepared: Learnable, n: int, progress: Progress) -> tuple[Tensor, Tensor]:
        values = prepared.start.clone().requires_grad_(True)
        rate = self.params.rate * float(values.detach().square().mean().sqrt())
        adam = torch.optim.Adam([values], lr=rate)
        best, lowest = values.detach().clone(), torch.full((n,), torch.inf, device=values.device)
        for _ in range(self.params.steps):
            said = prepared.predict(values)
            each = cross_entropy(said.logits, said.targets, reduction="none")
            losses = torch.zeros_like(lowest).index_add(0, said.rows, each)
            better = losses.detach() < lowest
            best[better], lowest[better] = values.detach()[better], losses.detach()[better]
            progress(int((lowest < SOLVED).sum()), n, float(lowest.mean()))
            (values.grad,) = torch.autograd.grad(losses.sum(), values)
            adam.step()
        return best, lowest


def _examples(base: BaseModel, batch: EditBatch) -> list[Example]:
    examples, problems = [], []
    for edit in batch:
        try:
            prompt = prompt_ids(base, edit.prompt)
            answer = answer_ids(base, edit.target, prompt=edit.prompt)
            if len(prompt) + len(answer) > base.context_length:
                raise InvalidInputError("prompt and target do not fit in the model's context")
            examples.append(Example(tuple(prompt), tuple(answer), owner=len(examples)))
        except InvalidInputError as error:
            problems.append(Problem(f"edit {edit.id}", "prompt", error.message))
    if problems:
        raise invalid_edits(problems, n_edits=len(batch))
    return examples
