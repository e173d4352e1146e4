"""The third-party editor in `examples/plugin` obeys the contract, found by its entry point."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from editors.contract import EditorContract

from mlflow_edit.editors.catalog import GROUP, editor_names
from mlflow_edit.models.base_model import BaseModel

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the plug-in on the path with the metadata that installing it would write."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    points = project["entry-points"][GROUP]
    folder = tmp_path / "mledit_exact-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = "".join(f"{name} = {place}\n" for name, place in points.items())
    (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(PLUGIN))


@pytest.mark.usefixtures("_installed")
class TestExactEditor(EditorContract):
    editor_name = "exact"

    @pytest.fixture(params=["gpt2", "llama-chat"])
    def base(self, taught_bases: Any, request: pytest.FixtureRequest) -> BaseModel:
        base: BaseModel = taught_bases[request.param]
        return base

    def test_it_is_installed_beside_ours(self) -> None:
        assert {"exact", "grace"} <= set(editor_names())
