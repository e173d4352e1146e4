"""Learn values in one batch, against the published loop: one edit at a time, the whole model.

python tests/benchmarks/value_learning.py --data zsre.jsonl --n-edits 64 --n-baseline 16
"""

import statistics
import time

import torch
from measuring import arguments, base_model, consistent_edits, report
from torch.nn.functional import cross_entropy

from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.contexts import askings, for_each
from mlflow_edit.editors.entry_learning import Job, chunks, examples, with_second_try
from mlflow_edit.editors.grace import Grace, GraceParams
from mlflow_edit.editors.hidden_entries import _typical_distance, calibration_keys
from mlflow_edit.editors.value_learning import MIN_MARGIN, Search
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import answer_ids, prompt_ids
from mlflow_edit.models.upper_blocks import prepare

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
    args = arguments(__doc__, data=None, n_edits=64, n_baseline=16, repeats=3, loss_target=0.05)
    base = base_model(args.base)
    batch = consistent_edits(args.data, args.n_edits)
    params = GraceParams(loss_target=args.loss_target, scope="hidden")
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
        loss_target=args.loss_target,
        **profile(base, batch, params),
    )


def profile(base: BaseModel, batch: EditBatch, params: GraceParams) -> dict[str, float]:
    """Time the parts of learning once more, and the floor: each answer read once, and no learning."""
    site = locate(base.model, None)
    asked = for_each(batch, lambda edit: askings(base, edit, 1))
    jobs = [Job(i, edit, asked[i], 1) for i, edit in enumerate(batch)]
    seconds = {"calibration": 0.0, "below_the_layer": 0.0, "above_the_layer": 0.0, "floor": 0.0}
    start = time.perf_counter()
    _typical_distance(calibration_keys(base, site))
    seconds["calibration"] = time.perf_counter() - start
    search = Search(params.learning_rate, params.max_steps, params.loss_target, torch.float16)
    for chunk in chunks(jobs):
        some = examples(chunk)
        start = time.perf_counter()
        prepared = prepare(base, site, some, span=1)
        between = time.perf_counter()
        with_second_try(prepared, search, lambda *a: None)
        seconds["below_the_layer"] += between - start
        seconds["above_the_layer"] += time.perf_counter() - between
        width = max(len(one.prompt) + len(one.answer) for one in some)
        ids = torch.zeros(len(some), width, dtype=torch.long)
        start = time.perf_counter()
        with torch.inference_mode():
            base.model(ids, logits_to_keep=max(len(one.answer) for one in some))
        seconds["floor"] += time.perf_counter() - start
    return {f"seconds_{part}_per_edit": time / len(batch) for part, time in seconds.items()}


if __name__ == "__main__":
    main()
