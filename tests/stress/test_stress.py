"""Small runs of the stress scripts; docs/reliability.md has the large ones."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import Stores
from servers import stores as stores

pytestmark = pytest.mark.servers


def run(stores: Stores, folder: Path, script: str, *options: str) -> dict[str, Any]:
    """Run a script against the stores that tests share, and read what it measured."""
    variables = {**os.environ, **stores.environment, "MLFLOW_TRACKING_URI": stores.database}
    done = subprocess.run(
        [sys.executable, "-m", f"stress.{script}", "--through", "environment", *options],
        cwd=folder,
        env={**variables, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_many_writers_of_one_model(stores: Stores, tmp_path: Path) -> None:
    found = run(stores, tmp_path, "applies", "--processes", "4", "--publishes", "3")
    assert (found["published"], found["failed"], found["versions"]) == (12, 0, 13)


def test_many_movers_of_one_alias(stores: Stores, tmp_path: Path) -> None:
    found = run(stores, tmp_path, "aliases", "--processes", "4", "--moves", "3")
    assert found["moves"] + found["nothing_to_roll_back_to"] == found["tried"] == 12
