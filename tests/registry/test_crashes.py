"""A crash leaves the old state or the new one, wherever in `publish` it comes."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from registry_fixtures import draft_of, hand_made_batch, root_of

from mlflow_edit.core.manifest import Manifest
from mlflow_edit.errors import RegistryError
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.names import RESULTS, experiment_name
from mlflow_edit.registry.registry import Draft, VersionInfo

FAULTS: dict[str, Callable[[], BaseException]] = {
    "refused": lambda: MlflowException("refused"),
    "disk full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "interrupted": KeyboardInterrupt,
}


@dataclass
class Faults:
    """Makes the k-th call of the client fail, before it is made or after."""

    client: MlflowClient
    calls: list[str] = field(default_factory=list)
    fail_at: int = -1
    after: bool = False
    error: Callable[[], BaseException] = FAULTS["refused"]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.client, name)
        if not callable(value) or name.startswith("_"):
            return value

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            failing = len(self.calls) - 1 == self.fail_at
            if failing and not self.after:
                raise self.error()
            result = value(*args, **options)
            if failing:
                raise self.error()
            return result

        return call


@pytest.fixture
def bench(
    sqlite_registry: MlflowRegistry, chat_folder: Path
) -> tuple[MlflowRegistry, VersionInfo, Manifest]:
    return (sqlite_registry, *root_of(sqlite_registry, chat_folder, "m"))


def draft(root: tuple[VersionInfo, Manifest], seed: int) -> Draft:
    base = root[1].base
    batch = hand_made_batch(base.digest, [("Where?", f"Oslo {seed}")], seed=seed)
    return draft_of("m", base, parents=[root], batch=batch, documents=lambda m: {RESULTS: b"{}"})


def leftovers(registry: MlflowRegistry) -> tuple[list[str], list[str]]:
    """Return the states of runs and LoggedModels that belong to no version."""
    known = {v.run_id for v in registry.versions("m")}
    experiment = registry.client.get_experiment_by_name(experiment_name("m"))
    runs = registry.client.search_runs([experiment.experiment_id])
    models = registry.client.search_logged_models([experiment.experiment_id])
    return (
        [run.info.status for run in runs if run.info.run_id not in known],
        [str(model.status) for model in models if model.source_run_id not in known],
    )


@pytest.mark.parametrize(
    ("fault", "after"),
    [("refused", True), ("disk full", False), ("interrupted", True)],
)
def test_every_call_may_fail(
    bench: tuple[MlflowRegistry, VersionInfo, Manifest], fault: str, after: bool
) -> None:
    registry, *root = bench
    client = registry.client
    visible = [root[0]]
    calls: list[str] = []
    k = 0
    while True:
        faults = Faults(client, fail_at=k, after=after, error=FAULTS[fault])
        registry.client = faults  # type: ignore[assignment]
        raised: BaseException | None = None
        try:
            visible.append(registry.publish(draft((root[0], root[1]), seed=k)))
        except (RegistryError, KeyboardInterrupt) as error:
            raised = error
        registry.client = client
        assert registry.versions("m") == visible
        if k >= len(faults.calls):
            break
        name = faults.calls[k]
        calls.append(name)
        late = name == "create_model_version" and after
        assert (raised is None) == late, (k, name)
        if fault == "disk full" and raised is not None:
            assert "disk is full" in str(getattr(raised, "hint", ""))
        k += 1
    assert calls[-1] == "create_model_version"
    assert calls.count("create_model_version") == 1
    runs, models = leftovers(registry)
    unknown = {"RUNNING"} if after else set()  # its id was lost with the answer
    wanted = "KILLED" if fault == "interrupted" else "FAILED"
    assert set(runs) == {wanted} | unknown
    assert runs.count("RUNNING") <= 1
    assert set(models) <= {"FAILED", "PENDING"}
    assert visible[-1].parents == (root[0].digest,)
    for version in visible:
        for ref in registry.manifest(version).batches:
            registry.batch(ref)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Give a function after which writing files of some name fails half-way."""
    real = Path.write_bytes

    def fill(name: str) -> None:
        def write(self: Path, data: bytes) -> int:
            if self.name == name:
                real(self, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", str(self))
            return real(self, data)

        monkeypatch.setattr(Path, "write_bytes", write)

    return fill


@pytest.mark.parametrize(
    "name", ["patch.safetensors", "batch.json", "manifest.json", "scorecard.json", RESULTS]
)
def test_a_full_disk(
    bench: tuple[MlflowRegistry, VersionInfo, Manifest],
    full_disk: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    registry, *root = bench
    full_disk(name)
    with pytest.raises(RegistryError, match="No space left") as raised:
        registry.publish(draft((root[0], root[1]), seed=1))
    assert raised.value.exit_code == 9
    assert "Nothing was registered" in str(raised.value.hint)
    assert registry.versions("m") == [root[0]]
    monkeypatch.undo()
    monkeypatch.chdir(Path(registry.tracking_uri.removeprefix("sqlite:///")).parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)
    made = registry.publish(draft((root[0], root[1]), seed=1))
    assert registry.versions("m") == [root[0], made]


@pytest.mark.parametrize(
    "name", ["patch.safetensors", "edits.jsonl", "manifest.json", "scorecard.json"]
)
def test_a_store_that_keeps_something_else_is_found_out(
    bench: tuple[MlflowRegistry, VersionInfo, Manifest],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    registry, *root = bench
    real = registry.client.log_artifacts
    real_model = registry.client.log_model_artifacts

    def spoil(folder: str) -> None:
        for path in Path(folder).rglob(name):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))

    def log_run(run_id: str, folder: str) -> None:
        spoil(folder)
        real(run_id, folder)

    def log_model(model_id: str, folder: str) -> None:
        spoil(folder)
        real_model(model_id, folder)

    monkeypatch.setattr(registry.client, "log_artifacts", log_run)
    monkeypatch.setattr(registry.client, "log_model_artifacts", log_model)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        registry.publish(draft((root[0], root[1]), seed=1))
    assert getattr(raised.value, "exit_code", None) == 4
    assert registry.versions("m") == [root[0]]
    assert leftovers(registry) == (["FAILED"], ["FAILED"])
