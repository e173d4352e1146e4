"""Fine-tuning: descend the loss of the edits, on all weights or on some, freely or held back.

The baselines of Hartvigsen et al. 2023, "Aging with GRACE", arXiv:2211.11031: FT; FT+EWC, where
weights that the model needs are held by a quadratic (Kirkpatrick et al. 2017, "Overcoming
catastrophic forgetting in neural networks", arXiv:1612.00796); FT+Retrain, where earlier edits are
replayed. With `max_change` it is the constrained fine-tuning of Zhu et al. 2020, "Modifying
Memories in Transformer Models", arXiv:2012.00363.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.contexts import Asking, askings, for_each
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Progress
from mlflow_edit.editors.fisher import fisher_information, held_back
from mlflow_edit.editors.judging import Verdicts, judge, own_weight, settle, weight_of
from mlflow_edit.editors.key_statistics import texts_for
from mlflow_edit.editors.settings import blocks, loss_target, real, texts, whole
from mlflow_edit.editors.training import Limits, Objective, train
from mlflow_edit.models.architecture import Task, block_parameters
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.changes import Change, Dense, Sparse
from mlflow_edit.patches.substitution import substituted


class FinetuneParams(EditorParams):
    """Settings of fine-tuning."""

    layers: str | None = blocks(
        "blocks whose weights are trained, such as `7`, `5-9` or `4,6`; unset: all weights of the "
        "model"
    )
    learning_rate: float = real(
        0.003, "Adam's step, in units of the RMS of each weight", gt=0, le=1
    )
    max_steps: int = whole(100, "steps before training ends", le=100_000)
    loss_target: float = loss_target(0.05)
    batch_size: int = whole(32, "edits of one step", le=4096)
    max_change: float | None = real(
        None,
        "how far any element of a weight may move (an L-infinity bound); unset: any way",
        gt=0,
        lt=1e6,
    )
    ewc: float = real(
        0.0,
        "weight of the quadratic that holds weights by what the retained texts need; 0: none",
        ge=0,
        le=1e12,
    )
    retained_texts: str | None = texts("whose likelihood `ewc` holds")
    replay: int = whole(0, "how many earlier edits every step repeats", ge=0, le=100_000)
    density: float = real(
        1.0,
        "share of each weight's elements that is trained: those that a first training moves most; "
        "1: all, stored lossless",
        gt=0,
        le=1,
    )


class Finetune(Editor[FinetuneParams]):
    """Train weights on the edits."""

    name: ClassVar[str] = "finetune"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal", "seq2seq", "classifier"})
    params_type: ClassVar[type[EditorParams]] = FinetuneParams

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
        replayed = for_each(spaced(earlier, self.params.replay), lambda e: askings(base, e, 1)[0])
        names = block_parameters(base.model, self.params.layers)
        before = {name: weight_of(base, name).float() for name in names}
        fisher = self._fisher(base, names)
        steps = [0] * len(asked)

        def solve(which: list[int]) -> tuple[Change, ...]:
            some = [asked[i] for i in which]
            masks: dict[str, Tensor] = {}
            for _ in range(1 if self.params.density == 1 else 2):
                weights = {name: w.clone().requires_grad_(True) for name, w in before.items()}
                objective = self._objective(weights, before, fisher, replayed, masks)
                n_steps = self._train(base, weights, some, objective, len(asked), progress)
                masks = {
                    n: _largest(w.detach() - before[n], self.params.density)
                    for n, w in weights.items()
                }
            for i in which:
                steps[i] = n_steps
            return tuple(
                _change(base, name, before[name], weights[name].detach(), self.params.density)
                for name in names
            )

        def look(which: list[int], changes: tuple[Change, ...]) -> Verdicts:
            return judge(base, [asked[i] for i in which], changes)

        start = judge(base, asked).losses.nan_to_num(torch.finfo(torch.float32).max).tolist()
        return settle(batch.edits, steps, solve, look, start=start)

    def _fisher(self, base: BaseModel, names: Sequence[str]) -> dict[str, Tensor]:
        if not self.params.ewc:
            return {}
        return fisher_information(base, names, texts_for(self.params.retained_texts))

    def _objective(
        self,
        weights: Mapping[str, Tensor],
        before: Mapping[str, Tensor],
        fisher: Mapping[str, Tensor],
        replayed: Sequence[Asking],
        masks: Mapping[str, Tensor],
    ) -> Objective:
        bound = self.params.max_change

        @torch.no_grad()
        def stay_near() -> None:
            for name, weight in weights.items():
                if bound is not None:
                    weight.copy_(weight.clamp(before[name] - bound, before[name] + bound))
                if name in masks:
                    weight.copy_(torch.where(masks[name], weight, before[name]))

        penalty: Callable[[], Tensor] | None = None
        if fisher:
            penalty = lambda: held_back(weights, before, fisher, self.params.ewc)  # noqa: E731
        return Objective(replayed, penalty, stay_near)

    def _train(
        self,
        base: BaseModel,
        weights: Mapping[str, Tensor],
        asked: Sequence[Asking],
        objective: Objective,
        n_edits: int,
        progress: Progress,
    ) -> int:
        params = self.params
        groups = [
            {"params": [weight], "lr": params.learning_rate * max(float(_rms(weight)), 1e-8)}
            for weight in weights.values()
        ]
        limits = Limits(params.max_steps, params.loss_target, params.batch_size)
        used = {n: _standing_in(w, own_weight(base, n).dtype) for n, w in weights.items()}

        @torch.no_grad()
        def follow() -> None:
            objective.after_step()
            for name, weight in weights.items():
                if used[name] is not weight:
                    used[name].copy_(weight)

        with substituted(base.model, used):
            return train(
                base,
                base.model,
                groups,
                asked,
                limits,
                replace(objective, after_step=follow),
                lambda solved, loss: progress(solved, n_edits, loss),
            )


def spaced(earlier: Sequence[Edit], count: int) -> list[Edit]:
    """Choose `count` of the earlier edits, evenly spaced, the latest among them."""
    n = len(earlier)
    taken = min(count, n)
    return [earlier[n - 1 - (i * n) // taken] for i in range(taken)][::-1]


def _standing_in(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight in the type that the model computes in; its gradients go to the weight."""
    if weight.dtype == dtype:
        return weight
    used = weight.detach().to(dtype).requires_grad_(True)

    def hand_on(one: Tensor) -> None:
        assert one.grad is not None
        gradient = one.grad.to(weight.dtype)
        weight.grad = gradient if weight.grad is None else weight.grad + gradient
        one.grad = None

    used.register_post_accumulate_grad_hook(hand_on)  # type: ignore[no-untyped-call]
    return used


def _change(base: BaseModel, name: str, before: Tensor, after: Tensor, density: float) -> Change:
    """Make the change that leads from the weight that is in force to the one that was trained.

    Where deltas are attached already, the base's own weight and theirs are not the same. A dense
    change is kept in the type that the base is stored in, as a checkpoint of the edited model is.
    """
    moved = (after - before).cpu()
    if density < 1:
        places = _largest(moved, density).flatten().nonzero()[:, 0]
        return Sparse(name, places, moved.flatten()[places])
    own = own_weight(base, name).cpu()
    edited = after.cpu() if torch.equal(before.cpu(), own.float()) else own.float() + moved
    kept = own.dtype if base.stored is None or base.rounded else base.stored
    return Dense.of(name, own.to(kept), edited.to(kept))


def _largest(moved: Tensor, density: float) -> Tensor:
    """Tell which elements are the largest, in the shape of `moved`; of equal ones the first."""
    order = moved.abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros_like(order, dtype=torch.bool)
    mask[order[: max(1, round(density * len(order)))]] = True
    return mask.view_as(moved)


def _rms(weight: Tensor) -> Tensor:
    return weight.detach().square().mean().sqrt()
