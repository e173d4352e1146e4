"""Stores, a tiny base in a folder, edits files and drafts, for tests of the upper layers."""

import itertools
import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import BaseRef, Exclusion, Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.registry.registry import Draft, Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch

SUITE_LINES = (
    {"prompt": "Where is the north?", "answers": ["Oslo"]},
    {"text": "The capital of France is Paris ."},
)
BOOK, FILM, RIVER = "Where is the book?", "Where is the film?", "Where is the river?"
CREATED = "2026-01-02T03:04:05.000000Z"
_numbers = itertools.count(1)


def scratch() -> Path:
    """Return the folder that is removed when the tests are done."""
    return Path(os.environ["MLEDIT_CACHE_DIR"]).parent


def new_name(stem: str = "m") -> str:
    """Return a model name that no other test uses."""
    return f"{stem}-{next(_numbers)}"


@cache
def template_database() -> Path:
    """Make an initialised, empty MLflow database once; creating one takes seconds."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    path = scratch() / "template.db"
    engine = create_engine(f"sqlite:///{path}")
    _initialize_tables(engine)
    engine.dispose()
    return path


@cache
def base_folder() -> Path:
    """Save a tiny chat model that was taught to answer a few questions."""
    from tiny_models import save_tiny, taught_base

    return save_tiny(taught_base("llama-chat"), scratch() / "bases" / "tiny-chat")


@cache
def base_digest_of(folder: Path) -> str:
    """Return the digest of a model in a folder."""
    from mlflow_edit.models.base_digest import base_digest

    return base_digest(folder, folder)


@pytest.fixture(scope="session")
def chat_folder() -> Path:
    """A tiny chat model in Hugging Face layout; tests leave it as it is."""
    return base_folder()


@pytest.fixture(scope="session")
def suite_file() -> Path:
    """Return a suite of one question and one text."""
    path = scratch() / "suite.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in SUITE_LINES))
    return path


@pytest.fixture(scope="session")
def suite(suite_file: Path) -> Any:
    """The same suite, read."""
    from mlflow_edit.evaluation.suite import parse_suite

    return parse_suite(suite_file.read_text(), name="tiny")


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracking URI of an empty sqlite store; artifacts go below the test's own folder."""
    database = tmp_path / "mlflow.db"
    database.write_bytes(template_database().read_bytes())
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{database}"
    keep_tracking_uri(monkeypatch, uri)
    return uri


def keep_tracking_uri(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """Set MLflow's tracking URI, and put back what was there when the test is done."""
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


@pytest.fixture
def sqlite_registry(tracking: str) -> Any:
    """An MLflow registry on a sqlite database of its own."""
    from mlflow_edit.registry.mlflow_registry import MlflowRegistry

    return MlflowRegistry(tracking)


@pytest.fixture
def write_edits(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes `(prompt, target)` pairs, or whole edits, to a JSONL file."""

    def write(*edits: tuple[str, str] | dict[str, Any], name: str = "edits.jsonl") -> Path:
        rows = [e if isinstance(e, dict) else {"prompt": e[0], "target": e[1]} for e in edits]
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path

    return write


class Recorder:
    """A reporter that keeps what it is told, and may act when a stage begins."""

    def __init__(self, at_stage: Callable[[str], None] = lambda text: None) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.steps: list[tuple[int, int, str]] = []
        self._at_stage = at_stage

    def stage(self, text: str) -> None:
        self.stages.append(text)
        self._at_stage(text)

    def progress(self, done: int, total: int, detail: str = "") -> None:
        self.steps.append((done, total, detail))

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def hand_made_batch(
    base: str, edits: Sequence[tuple[str, str] | Edit], *, seed: int = 0, width: int = 8
) -> StoredBatch:
    """Make a batch without learning: one random entry for each edit."""
    batch = EditBatch(
        tuple(
            e if isinstance(e, Edit) else Edit(id=f"e{i}", prompt=e[0], target=e[1])
            for i, e in enumerate(edits)
        )
    )
    draw = torch.Generator().manual_seed(seed)
    n = len(edits)
    patch = Codebook(
        layer="model.layers.1",
        stack="model",
        keys=torch.randn(n, width, generator=draw),
        values=torch.randn(n, width, generator=draw),
        radii=torch.full((n,), 0.01),
        key_tokens=torch.zeros(n, dtype=torch.long),
        labels=tuple(edit.label_digest for edit in batch),
        edit_ids=tuple(edit.id for edit in batch),
    )
    return StoredBatch.of(base=base, editor="grace", params={}, edits=batch, patch=patch)


def draft_of(
    name: str,
    base: BaseRef,
    *,
    parents: Sequence[tuple[VersionInfo, Manifest]] = (),
    batch: StoredBatch | None = None,
    exclusions: Sequence[Exclusion] = (),
    scorecard: Scorecard | None = None,
    message: str = "why",
    **options: Any,
) -> Draft:
    """Make a version ready to be published, over what its parents hold."""
    card = scorecard or Scorecard(reliability=0.5, n_probes={"reliability": 2})

    def manifest(run_id: str) -> Manifest:
        refs = {ref.digest: ref for _, m in parents for ref in m.batches}
        if batch is not None:
            refs.setdefault(batch.record.digest, batch.reference(run_id))
        return Manifest(
            base=base,
            parents=tuple(info.digest for info, _ in parents),
            batches=tuple(refs.values()),
            exclusions=tuple(exclusions),
            author="Ada <ada@example.org>",
            created_at=CREATED,
            message=message,
            scorecard=card.digest,
        )

    return Draft(
        name=name,
        verb="apply" if batch else "init",
        manifest=manifest,
        base=base,
        scorecard=card,
        batch=batch,
        params={"verb": "apply", "batch": batch.record.digest} if batch else {},
        **options,
    )


def root_of(
    registry: Registry, folder: Path, name: str, **options: Any
) -> tuple[VersionInfo, Manifest]:
    """Publish a root version over the base in `folder`."""
    base = registry.add_base(
        folder, digest=base_digest_of(folder), source="tiny", advance=lambda text: None
    )
    registry.create_model(name)
    info = registry.publish(draft_of(name, base, **options))
    return info, registry.manifest(info)
