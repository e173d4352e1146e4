"""What these tests share with the tests of the other upper layers, and a tiny history."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import chat_folder as chat_folder
from registry_fixtures import sqlite_registry as sqlite_registry
from registry_fixtures import suite as suite
from registry_fixtures import suite_file as suite_file
from registry_fixtures import tracking as tracking
from registry_fixtures import write_edits as write_edits
from servers import server as server

from mlflow_edit import MemoryRegistry, apply, init
from mlflow_edit.operations.apply import Applied


@dataclass
class Bench:
    """A registry in memory with a root version `m@1`, and `apply` to it."""

    registry: MemoryRegistry
    apply: Callable[..., Applied]

    def count(self) -> int:
        """Count the versions."""
        return len(self.registry.versions("m"))


@pytest.fixture
def bench(chat_folder: Path, suite: Any) -> Bench:
    """A fresh registry in memory."""
    registry = MemoryRegistry()
    init("m", base=str(chat_folder), registry=registry)

    def apply_files(*files: Path, **options: Any) -> Applied:
        return apply("m", files, **{"suite": suite, "registry": registry, **options})

    return Bench(registry, partial(apply_files))
