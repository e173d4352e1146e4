"""Every editor of the catalog, on every tiny family, obeys the contract."""

from typing import Any

import pytest
from editors.contract import EditorContract
from tiny_models import FAMILIES

from mlflow_edit.editors.catalog import editor_names
from mlflow_edit.models.base_model import BaseModel

EVERY = [*FAMILIES, "llama-chat"]
REWRITING = ["llama", "gpt2"]  # a tiny chat model does not look back at what it is asked about
FEW = ["llama", "gpt2", "llama-chat", "bert", "t5"]
BASES = {
    **dict.fromkeys(("rome", "memit", "alphaedit", "ultraedit"), REWRITING),
    **dict.fromkeys(("finetune", "lora"), FEW),
}
PARAMS: dict[str, dict[str, Any]] = {
    name: {"contexts": 1, "max_norm": 50, "decay": 0} for name in ("rome", "memit", "alphaedit")
} | {"ultraedit": {"max_rounds": 60}}
CASES = [(editor, base) for editor in editor_names() for base in BASES.get(editor, EVERY)]


@pytest.mark.parametrize(("editor_name", "name"), CASES)
class TestCatalog(EditorContract):
    @pytest.fixture
    def base(self, taught_bases: Any, tiny_bases: Any, name: str, editor_name: str) -> BaseModel:
        self.editor_name = editor_name  # type: ignore[misc]
        self.params = PARAMS.get(editor_name, {})  # type: ignore[misc]
        return tiny_bases[name] if name == "bert" else taught_bases[name]
