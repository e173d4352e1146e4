"""Learn values in one batch, against the published loop: one edit at a time, the whole model.

python tests/benchmarks/value_learning.py --data zsre.jsonl --n-edits 64 --n-baseline 16
"""

import statistics
import time

import torch
from measuring import arguments, base_model, consistent_edits, report
from torch.nn.functional import cross_entropy

from mlflow_edit.editors.grace import Grace, GraceParams
from mlflow_edit.editors.value_learning import MIN_MARGIN
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import answer_ids, prompt_ids

N_STEPS = (
    100  # of the published loop (Thartvigsen/GRACE, config/grace.yaml), which never stops early
)


def published_loop(
    base: BaseModel, layer: str, prompt: list[int], answer: list[int], learning_rate: float
) -> tuple[float, bool]:
    """Learn one value as the published code does: full forward and backward, every step."""
    ids = torch.tensor([[*prompt, *answer[:-1]]])
    targets = torch.tensor(answer)
    place = len(prompt) - 1
    value: torch.Tensor | None = None
    wanted_rate = 0.0

    def put(module, args, output):
        nonlocal value, wanted_rate
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        if value is None:
            value = hidden[0, place].detach().clone().requires_grad_(True)
            wanted_rate = learning_rate * float(value.detach().square().mean().sqrt())
        changed = hidden.clone()
        changed[0, place] = value
        return changed if isinstance(output, torch.Tensor) else (changed, *output[1:])

    handle = base.model.get_submodule(layer).register_forward_hook(put)
    optimiser = None
    try:
        for _ in range(N_STEPS):
            logits = base.model(ids).logits[0, place:]
            loss = cross_entropy(logits, targets)
            if optimiser is None:
                optimiser = torch.optim.Adam([value], lr=wanted_rate)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            logits = base.model(ids).logits[0, place:]
    finally:
        handle.remove()
    others = logits.scatter(1, targets[:, None], -torch.inf).amax(1)
    lead = logits.gather(1, targets[:, None])[:, 0] - others
    return float(cross_entropy(logits, targets)), bool((lead >= MIN_MARGIN).all())


def main() -> None:
    args = arguments(__doc__, data=None, n_edits=64, n_baseline=16, repeats=3)
    base = base_model(args.base)
    batch = consistent_edits(args.data, args.n_edits)
    params = GraceParams()
    layer = locate(base.model, None).layer
    ours = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        learning = Grace(params).learn(base, batch, lambda *a: None)
        ours.append(
            (time.perf_counter() - start) / max(1, sum(o.solved for o in learning.outcomes))
        )
    step = max(1, len(batch) // args.n_baseline)
    chosen = list(batch)[::step][: args.n_baseline]
    theirs, losses, solved = [], [], 0
    for edit in chosen:
        start = time.perf_counter()
        prompt = prompt_ids(base, edit.prompt)
        answer = answer_ids(base, edit.target, prompt=edit.prompt)
        loss, right = published_loop(base, layer, prompt, answer, params.learning_rate)
        theirs.append(time.perf_counter() - start)
        losses.append(loss)
        solved += right
    baseline = sum(theirs) / max(1, solved)
    mine = statistics.median(ours)
    report(
        seconds_per_solved_edit_batched=mine,
        seconds_per_solved_edit_batched_all=ours,
        seconds_per_solved_edit_published_loop=baseline,
        times_faster=baseline / mine,
        n_edits=len(batch),
        n_solved_batched=sum(o.solved for o in learning.outcomes),
        mean_loss_batched=statistics.mean(o.loss for o in learning.outcomes),
        max_loss_batched=max(o.loss for o in learning.outcomes),
        median_steps_batched=statistics.median(o.steps for o in learning.outcomes),
        n_edits_published_loop=len(chosen),
        n_solved_published_loop=solved,
        mean_loss_published_loop=statistics.mean(losses),
        layer=layer,
    )


if __name__ == "__main__":
    main()
