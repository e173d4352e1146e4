"""Write low-rank changes as an adapter of peft: a folder that `PeftModel.from_pretrained` loads."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mlflow_edit.errors import IntegrityError, UnsupportedModel
from mlflow_edit.models.architecture import task_of
from mlflow_edit.patches.changes import Change, LowRank

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
TASKS = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "classifier": None}


class Factors(NamedTuple):
    r"""What LoRA adds to a module: $W' = W + B A$, with `a (rank, d_in)` and `b (d_out, rank)`."""

    module: str
    a: Tensor
    b: Tensor

    @property
    def rank(self) -> int:
        """The number of rows of `a`."""
        return self.a.shape[0]


def factors_of(model: nn.Module, changes: Mapping[str, Sequence[Change]]) -> list[Factors]:
    r"""Write the changes of each weight as one pair of factors: those of several are concatenated.

    $\sum_i s_i L_i R_i = [s_1 L_1 \; s_2 L_2 \ldots] [R_1; R_2; \ldots]$; a Conv1D stores its
    weight transposed. Factors are in float32.

    Raises:
        UnsupportedModel: a change is not low-rank, or not of a linear layer's weight.
    """
    found = []
    for name, some in sorted(changes.items()):
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        if leaf != "weight" or not (isinstance(module, nn.Linear) or _is_conv1d(module)):
            raise UnsupportedModel(
                f"LoRA cannot hold what is added to {name} ({type(module).__name__})",
                hint="Only weights of linear layers can be in an adapter. Write the whole model: "
                "mledit export --as merged.",
            )
        low = [change for change in some if isinstance(change, LowRank)]
        if len(low) < len(some):
            other = next(change for change in some if not isinstance(change, LowRank))
            raise UnsupportedModel(
                f"LoRA cannot hold the {other.form} change of {name}",
                hint="Write the whole model: mledit export --as merged.",
            )
        left = torch.cat([change.left.float() * change.scale for change in low], dim=1)
        right = torch.cat([change.right.float() for change in low], dim=0)
        a, b = (left.T, right.T) if _is_conv1d(module) else (right, left)
        if len(a):
            found.append(Factors(path, a.contiguous(), b.contiguous()))
    return found


def write_adapter(folder: Path, model: nn.Module, factors: Sequence[Factors], *, base: str) -> None:
    """Write an adapter folder and read it back.

    Args:
        folder: there already.
        model: the base model, or its outline.
        factors: at least one.
        base: where the base model is found, for peft to note.

    Raises:
        IntegrityError: what was read back is not what was written.
    """
    tensors = {
        f"base_model.model.{one.module}.lora_{name}.weight": tensor
        for one in factors
        for name, tensor in (("A", one.a), ("B", one.b))
    }
    text = json.dumps(_config(model, factors, base), indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    save_file(tensors, folder / TENSORS, metadata={"format": "pt"})
    read = load_file(folder / TENSORS)
    same = read.keys() == tensors.keys() and all(torch.equal(read[n], tensors[n]) for n in read)
    if not same:
        raise IntegrityError(f"{folder / TENSORS} is not what was written to it")


def _config(model: nn.Module, factors: Sequence[Factors], base: str) -> dict[str, Any]:
    """Write peft's settings: alpha is the rank everywhere, so that factors count as they are."""
    (usual, _), *_ = Counter(one.rank for one in factors).most_common()
    odd = {one.module: one.rank for one in factors if one.rank != usual}
    transposed = [_is_conv1d(model.get_submodule(one.module)) for one in factors]
    return {
        "peft_type": "LORA",
        "task_type": TASKS[task_of(model)],
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": odd,
        "alpha_pattern": odd,
        "target_modules": sorted(one.module for one in factors),
        "fan_in_fan_out": all(transposed),
        "lora_dropout": 0.0,
        "bias": "none",
        "init_lora_weights": True,
        "use_rslora": False,
    }


def _is_conv1d(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"
