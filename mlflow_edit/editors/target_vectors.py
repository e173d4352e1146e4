"""What a module should give at an edit's subject, so that the model answers with the target."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mlflow_edit.editors.subject_prompts import SubjectPrompts
from mlflow_edit.editors.value_learning import Learned, Search, learn_values
from mlflow_edit.models.activations import by_row
from mlflow_edit.models.architecture import Site, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.upper_blocks import Example, Learnable, Predictions, prepare
from mlflow_edit.patches.interception import submodule

MAX_ROWS, MAX_TOKENS = 64, 4096  # of one pass


@dataclass(frozen=True, slots=True)
class TargetSearch:
    """How to look for target vectors.

    Args:
        search: limits of the optimisation; the step is in units of the RMS of the module's output.
        drift: weight of the divergence of what the model says that the subject is.
        decay: weight of the square of the shift's norm as a share of the output's.
        max_norm: the largest norm of a shift, as a share of the output's.
    """

    search: Search
    drift: float
    decay: float
    max_norm: float


@dataclass(frozen=True, slots=True)
class Targets:
    """The module's outputs `(n, d)` at the prompts alone, what is to be added, how it went."""

    outputs: Tensor
    shifts: Tensor
    learned: Learned


def learn_targets(
    base: BaseModel,
    site: Site,
    module: str,
    prompts: Sequence[SubjectPrompts],
    search: TargetSearch,
    on_step: Callable[[int, float], None],
) -> Targets:
    r"""Find for each edit the shift of a module's output at its subject's last token.

    $\delta^* = \arg\min_\delta -\frac1T \sum_{x,t} \log p(y_t \mid x, y_{<t};\; v + \delta)
    + \lambda_{KL} D_{KL}\big(p(\cdot \mid \text{“}s\text{ is a”}) \,\Vert\, p_\delta\big)
    + \lambda_\delta \lVert\delta\rVert^2 / \lVert v\rVert^2$ with $\lVert\delta\rVert \le c
    \lVert v\rVert$ (Meng et al. 2022, arXiv:2202.05262, eq. 4), over the contexts $x$; every edit
    its own optimisation, all of a pass in one batch.

    Args:
        base: the base model.
        site: the block that `module` is in; there must be one below it.
        module: path of the block itself or of a module in it.
        prompts: the edits.
        search: settings.
        on_step: is told (edits solved, mean loss) after every step.

    Raises:
        UnsupportedModel: as `upper_blocks.prepare`.
    """
    n = len(prompts)
    found: list[tuple[list[int], Tensor, Learned]] = []
    for chunk in _chunks(prompts):
        done = sum(int(learned.solved.sum()) for _, _, learned in found)

        def told(solved: int, loss: float, done: int = done) -> None:
            on_step(done + solved, loss)

        problem = _shifted(base, site, module, [prompts[i] for i in chunk], search)
        learned = learn_values(problem, search.search, on_step=told)
        found.append((chunk, problem.outputs, learned))
    order = torch.tensor([i for chunk, _, _ in found for i in chunk]).argsort()
    parts = zip(*(learned.parts() for _, _, learned in found), strict=True)
    whole = Learned(*(torch.cat([part.cpu() for part in some])[order] for some in parts))
    outputs = torch.cat([some.cpu() for _, some, _ in found])[order]
    assert len(outputs) == n
    return Targets(outputs, whole.values[:, 0], whole)


@dataclass(frozen=True, eq=False)
class _Shifted(Learnable):
    """Shifts of a module's output as values; what is below the block is known."""

    cached: Learnable  # each row its own owner, values at the output of the block below
    module: nn.Module
    owners: Tensor  # (n_rows,) the edit that each row is of
    positions: Tensor  # (n_rows,) the subject's last token, counted from the first cached value
    is_essence: Tensor  # (n_rows,)
    plain: Tensor  # (n_essences, n_classes) log-probabilities without a shift
    outputs: Tensor  # (n_owners, d)
    search: TargetSearch

    @property
    def start(self) -> Tensor:
        return torch.zeros_like(self.outputs)[:, None]

    @property
    def scale(self) -> Tensor:
        return self.outputs.square().mean(1).sqrt()[:, None, None]

    def bounded(self, values: Tensor) -> Tensor:
        limit = self.search.max_norm * self.outputs.norm(dim=1)[:, None, None]
        norm = values.norm(dim=2, keepdim=True)
        share: Tensor = (limit / norm.clamp(min=1e-12)).clamp(max=1)
        return values * share

    def predict(self, values: Tensor) -> Predictions:
        with _shifting(self.module, values[self.owners, 0], self.positions):
            logits, wanted, rows, _ = self.cached.predict(self.cached.own)
        essence = self.is_essence[rows]
        now = logits[essence].log_softmax(-1)
        drift = (self.plain.exp() * (self.plain - now)).sum(1)
        owners = self.owners[rows]
        penalty = values.new_zeros(len(values)).index_add(0, owners[essence], drift)
        share = values[:, 0].square().sum(1) / self.outputs.square().sum(1)
        penalty = self.search.drift * penalty + self.search.decay * share
        return Predictions(logits[~essence], wanted[~essence], owners[~essence], penalty)

    def rows(self, rows: Tensor) -> "_Shifted":
        return replace(
            self,
            cached=self.cached.select(rows),
            owners=self.owners[rows],
            positions=self.positions[rows],
            is_essence=self.is_essence[rows],
            plain=self.plain[self.is_essence.cumsum(0)[rows[self.is_essence[rows]]] - 1],
        )

    def select(self, owners: Tensor) -> "_Shifted":
        return replace(super().select(owners), outputs=self.outputs[owners])


def _shifted(
    base: BaseModel,
    site: Site,
    module: str,
    prompts: Sequence[SubjectPrompts],
    search: TargetSearch,
) -> _Shifted:
    below = locate(base.model, f"{site.layers}.{site.index - 1}")
    rows = [
        (owner, one.prompt, one.answer, position, False)
        for owner, row in enumerate(prompts)
        for one, position in zip(row.asked, row.positions, strict=True)
    ]
    rows += [
        (owner, row.essence.prompt, (0,), row.essence.position, True)
        for owner, row in enumerate(prompts)
        if row.essence is not None and search.drift
    ]
    span = max(len(prompt) - position for _, prompt, _, position, _ in rows)
    examples = [Example(prompt, answer, i) for i, (_, prompt, answer, _, _) in enumerate(rows)]
    device = base.device
    owners = torch.tensor([row[0] for row in rows], device=device)
    positions = torch.tensor([span - len(prompt) + at for _, prompt, _, at, _ in rows])
    is_essence = torch.tensor([row[4] for row in rows], device=device)
    cached = prepare(base, below, examples, span=span)
    place, found = positions.to(device), submodule(base.model, module)
    with torch.no_grad(), _noting(found) as seen:
        logits, _, of_row, _ = cached.predict(cached.own)
    first = [int((owners == owner).nonzero()[0, 0]) for owner in range(len(prompts))]
    return _Shifted(
        cached=cached,
        module=found,
        owners=owners,
        positions=place,
        is_essence=is_essence,
        plain=logits[is_essence[of_row]].log_softmax(-1),
        outputs=by_row(seen[-1], len(rows))[first, place[first]].float(),
        search=search,
    )


@contextmanager
def _shifting(module: nn.Module, shifts: Tensor, positions: Tensor) -> Iterator[None]:
    """Add `shifts` `(n_rows, d)` to a module's output at one position of each row."""
    rows = torch.arange(len(shifts), device=shifts.device)

    def add(_: nn.Module, args: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else output[0]
        whole = torch.zeros_like(by_row(hidden, len(shifts)))
        whole = whole.index_put((rows, positions), shifts.to(hidden.dtype))
        moved = hidden + whole.view_as(hidden)
        return moved if isinstance(output, Tensor) else (moved, *output[1:])

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _noting(module: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    handle = module.register_forward_hook(
        lambda _, args, output: seen.append(output if isinstance(output, Tensor) else output[0])
    )
    try:
        yield seen
    finally:
        handle.remove()


def _chunks(prompts: Sequence[SubjectPrompts]) -> list[list[int]]:
    """Group edits alike in what is run at every step, from the subject to the answer's end.

    So little is padded, and memory is bounded.
    """
    lengths = [max(len(one.prompt) + len(one.answer) for one in row.asked) for row in prompts]
    tails = [
        max(len(a.prompt) - at + len(a.answer) for a, at in zip(p.asked, p.positions, strict=True))
        for p in prompts
    ]
    chunks: list[list[int]] = []
    longest = n_rows = 0
    for i in sorted(range(len(prompts)), key=lambda i: (tails[i], i)):
        n_more = len(prompts[i].asked) + 1
        longest, n_rows = max(longest, lengths[i]), n_rows + n_more
        if not chunks or n_rows > MAX_ROWS or longest * n_rows > MAX_TOKENS:
            chunks.append([])
            longest, n_rows = lengths[i], n_more
        chunks[-1].append(i)
    return chunks
