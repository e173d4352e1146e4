"""What editors share that rewrite the end of feed-forward layers at an edit's subject."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from mlflow_edit.core.edit import Edit
from mlflow_edit.editors.contexts import for_each
from mlflow_edit.editors.editor import EditorParams, Learning, Progress
from mlflow_edit.editors.judging import Verdicts, judge, settle
from mlflow_edit.editors.settings import blocks, loss_target, max_norm, real, texts, whole
from mlflow_edit.editors.subject_prompts import SubjectPrompts, subject_prompts
from mlflow_edit.editors.target_vectors import Targets, TargetSearch, learn_targets
from mlflow_edit.editors.value_learning import Search
from mlflow_edit.models.activations import read_at
from mlflow_edit.models.architecture import Site
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.changes import Change, LowRank
from mlflow_edit.patches.interception import submodule
from mlflow_edit.patches.substitution import canonical_name


class RewriteParams(EditorParams):
    """Settings of editors that rewrite feed-forward layers."""

    layers: str | None = blocks(
        "blocks whose feed-forward weights are rewritten, such as `7`, `5-9` or `4,6`; unset: the "
        "family's"
    )
    contexts: int = whole(2, "in how many contexts an edit is learned", le=6)
    learning_rate: float = real(
        0.5, "Adam's step for target vectors, in units of the RMS of the output there", gt=0, le=10
    )
    max_steps: int = whole(30, "steps for target vectors", le=10_000)
    loss_target: float = loss_target(0.1)
    max_norm: float = max_norm(4.0)
    drift: float = real(
        0.0625, "weight of the divergence of what the subject is said to be", ge=0, le=100
    )
    decay: float = real(
        0.005,
        "weight of the squared norm of what is added, as a share of the output's",
        ge=0,
        le=100,
    )
    covariance_texts: str | None = texts("whose keys are to be left alone")


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Edits with their target vectors, ready to be solved for."""

    base: BaseModel
    edits: tuple[Edit, ...]
    prompts: tuple[SubjectPrompts, ...]
    targets: Targets

    def keys(self, module: str, which: Sequence[int]) -> Tensor:
        """Return what a linear module is given at the subjects, `(d_in, n)` float64.

        The mean over an edit's contexts, under the weights that are in force.
        """
        return mean_keys(self.base, module, [self.prompts[i] for i in which])

    def settled(self, solve: Callable[[list[int]], tuple[Change, ...]]) -> Learning:
        """Solve for the edits that hold together (see `judging.settle`)."""

        def look(which: list[int], changes: tuple[Change, ...]) -> Verdicts:
            return judge(self.base, [self.prompts[i].asked[0] for i in which], changes)

        learned = self.targets.learned
        steps = [int(count) for count in learned.steps]
        start = [float(loss) for loss in learned.losses]
        return settle(self.edits, steps, solve, look, start=start)


def rewriting(
    base: BaseModel,
    site: Site,
    module: str,
    edits: Sequence[Edit],
    params: RewriteParams,
    progress: Progress,
) -> Rewriting:
    """Learn the target vectors of `module`, in block `site`.

    Raises:
        InvalidEdit: an edit cannot be put to this model.
        UnsupportedModel: as `upper_blocks.prepare`.
    """
    prompts = for_each(edits, lambda edit: subject_prompts(base, edit, params.contexts))
    search = TargetSearch(
        Search(params.learning_rate, params.max_steps, params.loss_target, torch.float32),
        drift=params.drift,
        decay=params.decay,
        max_norm=params.max_norm,
    )

    def on_step(solved: int, loss: float) -> None:
        progress(solved, len(edits), loss)

    targets = learn_targets(base, site, module, prompts, search, on_step)
    return Rewriting(base, tuple(edits), tuple(prompts), targets)


def mean_keys(base: BaseModel, module: str, prompts: Sequence[SubjectPrompts]) -> Tensor:
    """Return the mean input of a module at each edit's subject, `(d_in, n_edits)` float64."""
    places = [place for row in prompts for place in row.places]
    owners = torch.tensor([i for i, row in enumerate(prompts) for _ in row.places])
    read = read_at(base, module, places, side="input").double().cpu()
    total = read.new_zeros(len(prompts), read.shape[1]).index_add(0, owners, read)
    return (total / owners.bincount(minlength=len(prompts))[:, None]).T


def low_rank(base: BaseModel, module: str, outward: Tensor, inward: Tensor) -> LowRank:
    """Make the change that adds `outward (d_out, n) @ inward (n, d_in)` to a linear map."""
    outward, inward = outward.float().contiguous(), inward.float().contiguous()
    name = canonical_name(base.model, f"{module}.weight")
    if isinstance(submodule(base.model, module), Conv1D):  # which stores the transpose
        return LowRank(name, inward.T.contiguous(), outward.T.contiguous())
    return LowRank(name, outward, inward)
