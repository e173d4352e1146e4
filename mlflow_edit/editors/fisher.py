"""Elastic weight consolidation: hold weights by how much the model's own texts need them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mlflow_edit.editors.judging import own_weight, weight_of
from mlflow_edit.errors import UnsupportedModel
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.patches.substitution import substituted

MAX_TEXT_TOKENS = 256


def fisher_information(
    base: BaseModel, names: Sequence[str], texts: Sequence[str]
) -> dict[str, Tensor]:
    r"""Estimate the diagonal of the Fisher information of weights, by name.

    $F = \frac1n \sum_x \big(\nabla_\theta \log p_\theta(x)\big)^2$ over texts $x$ (Kirkpatrick et
    al. 2017, arXiv:1612.00796), where $\log p$ is the mean over a text's tokens: the empirical one.

    Raises:
        UnsupportedModel: the model does not continue text.
    """
    if base.task != "causal":
        raise UnsupportedModel(
            f"ewc needs a model that continues text; {type(base.model).__name__} does not",
            hint="Leave --param ewc away.",
        )
    weights = {
        name: weight_of(base, name).to(own_weight(base, name).dtype).clone().requires_grad_(True)
        for name in names
    }
    total = {
        name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()
    }
    n_texts = 0
    with substituted(base.model, weights), torch.enable_grad():
        for text in texts:
            ids = base.tokenizer(text, return_tensors="pt", verbose=False)["input_ids"]
            ids = ids[:, : min(MAX_TEXT_TOKENS, base.context_length)].to(base.device)
            if ids.shape[1] < 2:
                continue
            logits = base.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            loss = cross_entropy(logits, ids[0, 1:])
            slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for name, slope in zip(weights, slopes, strict=True):
                if slope is not None:
                    total[name] += slope.float().square()
            n_texts += 1
    return {name: one / max(1, n_texts) for name, one in total.items()}


def held_back(
    weights: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    fisher: Mapping[str, Tensor],
    strength: float,
) -> Tensor:
    r"""Return $\frac{\lambda}{2} \sum_i F_i (\theta_i - \theta_{0,i})^2$, `()` float32."""
    terms = [(fisher[n] * (weight - before[n]).square()).sum() for n, weight in weights.items()]
    return torch.stack(terms).sum() * (strength / 2)
