"""A measured version in MLflow, and the edits that it was made from."""

from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, FILM, RIVER
from registry_fixtures import chat_folder as chat_folder
from registry_fixtures import sqlite_registry as sqlite_registry
from registry_fixtures import suite as suite
from registry_fixtures import suite_file as suite_file
from registry_fixtures import tracking as tracking
from registry_fixtures import write_edits as write_edits

from mlflow_edit import MlflowRegistry, apply, init

EDITS = (
    {
        "id": "book",
        "prompt": BOOK,
        "target": "Rome",
        "rephrases": ["The book is where?"],
        "locality": [RIVER],
    },
    {"id": "film", "prompt": FILM, "target": "Oslo"},
)


@pytest.fixture
def edits_file(write_edits: Any) -> Path:
    """Two edits, one of them with probes."""
    return Path(write_edits(*EDITS))


@pytest.fixture
def version(
    sqlite_registry: MlflowRegistry, chat_folder: Path, edits_file: Path, suite: Any
) -> str:
    """The version `m@2` that the edits made; return the id of its LoggedModel."""
    init("m", base=str(chat_folder))
    made = apply("m", [edits_file], suite=suite)
    assert (made.version, made.scorecard and made.scorecard["reliability"]) == (2, 1.0)
    return made.model_id
