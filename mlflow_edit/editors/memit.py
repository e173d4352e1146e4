"""MEMIT: write a batch of edits into several feed-forward layers at once.

Meng et al. 2023, "Mass-Editing Memory in a Transformer", arXiv:2210.07229. As ROME, but for all
edits together by least squares, and in several layers, each taking a share of the change.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Progress
from mlflow_edit.editors.key_statistics import second_moments, texts_for
from mlflow_edit.editors.rewriting import RewriteParams, rewriting
from mlflow_edit.editors.settings import max_norm, real
from mlflow_edit.editors.spreading import spread
from mlflow_edit.models.architecture import Task, down_projection, rewritten_sites
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.changes import Change


class MemitParams(RewriteParams):
    """Settings of MEMIT."""

    max_norm: float = max_norm(1.0)
    covariance_weight: float = real(
        0.1,
        "weight of the texts' keys against the edits', in units of the width of the keys",
        gt=0,
        le=1e6,
    )


class Memit(Editor[MemitParams]):
    """Insert a batch of edits into the weights of `layers`."""

    name: ClassVar[str] = "memit"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal"})
    params_type: ClassVar[type[EditorParams]] = MemitParams

    def learn(
        self,
        base: BaseModel,
        batch: EditBatch,
        progress: Progress,
        *,
        earlier: Sequence[Edit] = (),
    ) -> Learning:
        """Learn a batch (see `Editor.learn`)."""
        params = self.params
        sites = rewritten_sites(base.model, params.layers)
        work = rewriting(base, sites[-1], sites[-1].layer, batch.edits, params, progress)
        texts = texts_for(params.covariance_texts)
        moments = second_moments(base, [down_projection(site) for site in sites], texts)

        def solver(module: str, keys: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
            weight = params.covariance_weight * len(keys)
            return residuals, least_squares(keys, weight * moments[module])

        def solve(which: list[int]) -> tuple[Change, ...]:
            return spread(work, sites, which, solver)

        return work.settled(solve)


def least_squares(keys: Tensor, moment: Tensor) -> Tensor:
    r"""Return $K^\top (\lambda C + K K^\top)^{-1}$, `(n, d_in)`, the right factor of $\Delta$.

    $\Delta = R K^\top (\lambda C + K K^\top)^{-1}$ is the least change, in the measure of $C$, that
    brings $(W + \Delta) K$ towards $W K + R$ (Meng et al. 2023, eq. 14).

    Args:
        keys: $K$, `(d_in, n)` float64.
        moment: $\lambda C$, `(d_in, d_in)` float64.
    """
    solved: Tensor = torch.linalg.solve(moment + keys @ keys.T, keys)
    return solved.T
