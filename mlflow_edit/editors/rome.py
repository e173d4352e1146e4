"""ROME: rewrite one feed-forward weight by one rank for each edit, with the key of R-ROME.

Meng et al. 2022, "Locating and Editing Factual Associations in GPT", arXiv:2202.05262. The weight
that ends a feed-forward layer is a linear memory: at the subject's last token it is given a key
and gives a value. The published code divides by a key of the prompt alone and multiplies by one
that is a mean over contexts; where the two part, single edits ruin the model (Gupta et al. 2024,
"Rebuilding ROME", arXiv:2403.07175). Here the mean is the key in both places.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Progress
from mlflow_edit.editors.key_statistics import second_moments, texts_for
from mlflow_edit.editors.rewriting import RewriteParams, low_rank, rewriting
from mlflow_edit.editors.settings import real
from mlflow_edit.models.architecture import Task, down_projection, rewritten_sites
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.changes import Change


class RomeParams(RewriteParams):
    """Settings of ROME."""

    ridge: float = real(
        0.01,
        "share of the mean eigenvalue that is added to those of the second moment",
        ge=0,
        le=100,
    )


class Rome(Editor[RomeParams]):
    """Insert each edit into the weight of one layer, the last of `layers`."""

    name: ClassVar[str] = "rome"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal"})
    params_type: ClassVar[type[EditorParams]] = RomeParams

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
        site = rewritten_sites(base.model, params.layers)[-1]
        module = down_projection(site)
        work = rewriting(base, site, module, batch.edits, params, progress)
        texts = texts_for(params.covariance_texts)
        moment = second_moments(base, [module], texts, ridge=params.ridge)[module]
        keys = work.keys(module, range(len(batch)))
        shifts = work.targets.shifts.T.double()

        def solve(which: list[int]) -> tuple[Change, ...]:
            ordered = sorted(which, key=lambda i: batch.edits[i].digest)
            outward, inward = rank_one_updates(keys[:, ordered], shifts[:, ordered], moment)
            return (low_rank(base, module, outward, inward),)

        return work.settled(solve)


def rank_one_updates(keys: Tensor, shifts: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the factors `(d_out, n)` and `(n, d_in)` of `n` rank-one updates, made in turn.

    $W_i = W_{i-1} + (v_i^* - W_{i-1} k_i)\,(C^{-1} k_i)^\top / (k_i^\top C^{-1} k_i)$ with $v_i^* =
    W_0 k_i + \delta_i$ (Meng et al. 2022, eq. 2): each makes $W_i k_i = v_i^*$. With $u_i$ the row
    factors, the column factors $r_i$ solve $r_i + \sum_{j<i} r_j u_j^\top k_i = \delta_i$.

    Args:
        keys: $k_i$, `(d_in, n)` float64.
        shifts: $\delta_i$, `(d_out, n)` float64.
        moment: $C$, `(d_in, d_in)` float64.
    """
    whitened = torch.linalg.solve(moment, keys)
    inward = (whitened / (keys * whitened).sum(0)).T
    earlier_on_later = (inward @ keys).triu()  # its diagonal is one
    outward = torch.linalg.solve_triangular(earlier_on_later, shifts, upper=True, left=False)
    return outward, inward
