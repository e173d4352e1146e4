"""Tracing a base model that no registry has, and a version."""

from pathlib import Path
from typing import Any

import pytest

from mlflow_edit import MemoryRegistry, init, trace
from mlflow_edit.errors import InvalidInputError, NotFoundError, VersionNotFound

PROMPT = "Where is the river in Ada Lovelace ?"


def test_a_folder_needs_no_store(
    chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    found = trace(str(chat_folder), PROMPT, n_samples=2)
    registry: Any = MemoryRegistry()
    init("m", base=str(chat_folder), registry=registry)
    assert trace("m@1", PROMPT, n_samples=2, registry=registry) == found
    assert found.effects[found.layer] == max(found.effects)
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(NotFoundError):
        trace("m@1", PROMPT)
    with pytest.raises(VersionNotFound):  # and not that there is no such folder
        trace("m@9", PROMPT, registry=registry)


@pytest.mark.parametrize(
    "wrong", [{"noise": float("nan")}, {"noise": 0.0}, {"seed": 2**63}, {"n_samples": 0}]
)
def test_a_number_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="noise"):
        trace("m@1", PROMPT, registry=MemoryRegistry(), **wrong)
