r"""UltraEdit: closed-form changes from what modules are given, and how answers pull at them.

Gu et al. 2025, "UltraEdit: Training-, Subject-, and Memory-Free Lifelong Editing in Language
Models", arXiv:2505.14679: no subject is looked for and no target vector learned; the gradient at an
answer's tokens says what each module should have given, and a ridge regression writes it into the
weight. The published code takes one step, in coordinates normalised by a running mean and deviation
that live as long as its process. Here the step is repeated until the edits hold, and the
normalisation is by second moments: of plain texts, and of the keys of earlier edits, read anew
under the weights in force. So learning is a function of base, context, batch and parameters.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.answer_pulls import AnswerPulls, answer_inputs
from mlflow_edit.editors.contexts import Asking, askings, for_each
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Progress
from mlflow_edit.editors.judging import Verdicts, in_force, judge, settle
from mlflow_edit.editors.key_statistics import second_moments, texts_for
from mlflow_edit.editors.rewriting import low_rank
from mlflow_edit.editors.settings import blocks, real, texts, whole
from mlflow_edit.models.architecture import Task, down_projection, locate, rewritten_sites
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.changes import Change

DEPTHS = (0.67, 0.87)  # of the blocks that are rewritten where none are named


class UltraEditParams(EditorParams):
    """Settings of UltraEdit."""

    layers: str | None = blocks(
        "blocks whose feed-forward weights are rewritten, such as `7`, `5-9` or `4,6`; unset: "
        "those from .67 to .87 of the depth"
    )
    step: float = real(
        0.05,
        "how far an answer's tokens are moved in a round, in units of the RMS of the modules' "
        "outputs",
        gt=0,
        le=100,
    )
    max_rounds: int = whole(12, "rounds before an edit is given up", le=1000)
    covariance_weight: float = real(
        0.01,
        "weight of the texts' keys against the edits', in units of the width of the keys",
        gt=0,
        le=1e6,
    )
    ridge: float = real(
        0.01,
        "share of the mean eigenvalue that is added to those of the second moment",
        gt=0,
        le=100,
    )
    covariance_texts: str | None = texts("whose keys are to be left alone")


class UltraEdit(Editor[UltraEditParams]):
    """Write into the weights of `layers` what the answers' tokens ask of them."""

    name: ClassVar[str] = "ultraedit"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal"})
    params_type: ClassVar[type[EditorParams]] = UltraEditParams

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
        before = for_each(earlier, lambda edit: askings(base, edit, 1)[0])
        sites = rewritten_sites(base.model, self._layers(base))
        held = self._held(base, [down_projection(site) for site in sites], before)
        steps = [0] * len(asked)

        def solve(which: list[int]) -> tuple[Change, ...]:
            pulls = AnswerPulls(base, sites, [asked[i] for i in which])
            owners = torch.tensor([row for row, i in enumerate(which) for _ in asked[i].answer])
            changes, n_rounds = self._rounds(base, pulls, owners, held, len(asked), progress)
            for i in which:
                steps[i] = n_rounds
            return changes

        def look(which: list[int], changes: tuple[Change, ...]) -> Verdicts:
            return judge(base, [asked[i] for i in which], changes)

        start = judge(base, asked).losses.nan_to_num(torch.finfo(torch.float32).max).tolist()
        return settle(batch.edits, steps, solve, look, start=start)

    def _layers(self, base: BaseModel) -> str:
        if self.params.layers is not None:
            return self.params.layers
        n_layers = locate(base.model, 0).n_layers
        first, last = (max(1, min(round(share * n_layers), n_layers - 2)) for share in DEPTHS)
        return f"{first}-{last}"

    def _held(
        self, base: BaseModel, modules: Sequence[str], before: Sequence[Asking]
    ) -> dict[str, Tensor]:
        """Return Cholesky factors of what is to be left alone: of texts, and of earlier edits."""
        params = self.params
        texts = texts_for(params.covariance_texts)
        held = second_moments(base, modules, texts, ridge=params.ridge)
        inputs = answer_inputs(base, modules, before) if before else {}
        for module, moment in held.items():
            moment *= params.covariance_weight * len(moment)
            if module in inputs:
                moment += inputs[module].T @ inputs[module]
        return {module: torch.linalg.cholesky(moment) for module, moment in held.items()}

    def _rounds(
        self,
        base: BaseModel,
        pulls: AnswerPulls,
        owners: Tensor,
        held: dict[str, Tensor],
        n_edits: int,
        progress: Progress,
    ) -> tuple[tuple[Change, ...], int]:
        """Move the outputs down their gradients, round by round, until all edits hold.

        `owners (n_tokens,)` are the edits that the answers' tokens are of.
        """
        moves: dict[str, Tensor] = {}
        units: dict[str, Tensor] = {}
        changes: tuple[Change, ...] = ()
        for n_rounds in range(self.params.max_rounds + 1):
            with in_force(base, changes):
                pulled, (losses, right) = pulls.read()
            progress(int(right.sum()), n_edits, float(losses.mean()))
            if bool(right.all()) or n_rounds == self.params.max_rounds:
                break
            made = []
            for module, pull in pulled.items():
                if module not in units:  # of the first round: what is right later asks for less
                    units[module] = rms(pull.outputs) / rms(pull.gradients).clamp(min=1e-30)
                    moves[module] = torch.zeros_like(pull.outputs)
                wanted = pull.gradients * (~right)[owners, None]  # what holds is left where it is
                moves[module] -= self.params.step * units[module] * wanted
                inward = ridge_factor(pull.inputs.T, held[module])
                made.append(low_rank(base, module, moves[module].T, inward))
            changes = tuple(made)
        return changes, n_rounds


def ridge_factor(keys: Tensor, factor: Tensor) -> Tensor:
    r"""Return $(H^\top H + M)^{-1} H^\top$ transposed, `(n, d_in)`: the right factor of $\Delta$.

    $\Delta = V^\top H (H^\top H + M)^{-1}$ minimises $\sum_i \lVert \Delta h_i - v_i \rVert^2 +
    \mathrm{tr}\,\Delta M \Delta^\top$ (Gu et al. 2025, with $M = I$ in normalised coordinates).

    Args:
        keys: $H^\top$, `(d_in, n)` float64.
        factor: the Cholesky factor of $M$, `(d_in, d_in)` float64.
    """
    whitened = torch.cholesky_solve(keys, factor)  # Woodbury: only (n, n) is new in a round
    overlaps = keys.T @ whitened
    overlaps.diagonal().add_(1)
    solved: Tensor = torch.linalg.solve(overlaps, whitened.T)
    return solved


def rms(values: Tensor) -> Tensor:
    """Return the root of the mean square."""
    return values.square().mean().sqrt()
