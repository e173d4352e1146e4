"""Every editor of the catalog, on every tiny family, obeys the contract."""

from typing import Any

import pytest
from editors.contract import EditorContract
from tiny_models import FAMILIES

from mlflow_edit.editors.catalog import editor_names
from mlflow_edit.models.base_model import BaseModel


@pytest.mark.parametrize("name", [*FAMILIES, "llama-chat"])
@pytest.mark.parametrize("editor_name", editor_names())
class TestCatalog(EditorContract):
    @pytest.fixture
    def base(self, taught_bases: Any, tiny_bases: Any, name: str, editor_name: str) -> BaseModel:
        self.editor_name = editor_name  # type: ignore[misc]
        return tiny_bases[name] if name == "bert" else taught_bases[name]
