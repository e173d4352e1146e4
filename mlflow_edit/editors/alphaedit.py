"""AlphaEdit: MEMIT in the null space of what the model knows, mindful of earlier edits.

Fang et al. 2025, "AlphaEdit: Null-Space Constrained Knowledge Editing for Language Models",
arXiv:2410.02355. The published code keeps the keys of earlier edits in a global; here they are read
anew from the model, with the deltas of those edits in force, at every batch.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.contexts import for_each
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Progress
from mlflow_edit.editors.key_statistics import second_moments, texts_for
from mlflow_edit.editors.rewriting import RewriteParams, mean_keys, rewriting
from mlflow_edit.editors.settings import max_norm, real
from mlflow_edit.editors.spreading import spread
from mlflow_edit.editors.subject_prompts import subject_prompts
from mlflow_edit.models.architecture import Task, down_projection, rewritten_sites
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.changes import Change


class AlphaEditParams(RewriteParams):
    """Settings of AlphaEdit."""

    max_norm: float = max_norm(1.0)
    null_share: float = real(
        0.02,
        "the null space is spanned by the directions that hold together at most this share of the "
        "texts' keys",
        gt=0,
        le=1,
    )
    ridge: float = real(
        0.01,
        "weight of the change's own size, as a share of the edits' mean squared key in the null "
        "space",
        gt=0,
        le=1e6,
    )


class AlphaEdit(Editor[AlphaEditParams]):
    """Insert a batch of edits into the null space of the weights of `layers`."""

    name: ClassVar[str] = "alphaedit"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal"})
    params_type: ClassVar[type[EditorParams]] = AlphaEditParams

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
        before = for_each(earlier, lambda edit: subject_prompts(base, edit, params.contexts))
        projections: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}
        moments = second_moments(base, [down_projection(site) for site in sites], texts)
        for module, moment in moments.items():
            projections[module] = null_space(moment, params.null_share)
            none = projections[module][:, :0]
            kept[module] = mean_keys(base, module, before) if before else none

        def solver(module: str, keys: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
            return residuals, projected_least_squares(
                keys, kept[module], projections[module], params.ridge
            )

        def solve(which: list[int]) -> tuple[Change, ...]:
            return spread(work, sites, which, solver)

        return work.settled(solve)


def null_space(moment: Tensor, share: float) -> Tensor:
    """Return an orthonormal basis `(d_in, n)` of the directions that hold least of the keys.

    As many as hold together at most `share` of the trace of `moment` `(d_in, d_in)`.
    """
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(moment)
    held = values.clamp(min=0).cumsum(0)
    return vectors[:, : int((held <= share * held[-1]).sum())]


def projected_least_squares(keys: Tensor, kept: Tensor, basis: Tensor, ridge: float) -> Tensor:
    r"""Return $K^\top P (K_p K_p^\top P + K K^\top P + \lambda I)^{-1}$, `(n, d_in)`.

    With it $\Delta = R\,\cdot$ changes nothing along the texts' keys, for $\Delta = \Delta P$, and
    little at the keys $K_p$ of earlier edits (Fang et al. 2025, eq. 14). Solved in the null space's
    own coordinates $P = B B^\top$, where it is symmetric.

    Args:
        keys: $K$, `(d_in, n)` float64.
        kept: $K_p$, `(d_in, n_earlier)` float64.
        basis: $B$, `(d_in, n_null)` float64.
        ridge: $\lambda$ as a share of the mean squared norm of the keys in the null space.
    """
    inside, before = basis.T @ keys, basis.T @ kept
    gram = inside @ inside.T + before @ before.T
    scale = inside.square().sum(0).mean().clamp(min=1e-12)
    gram.diagonal().add_(ridge * scale)
    solved: Tensor = torch.linalg.solve(gram, inside)
    return (basis @ solved).T
