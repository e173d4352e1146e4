"""Nothing is loaded unverified: whatever was changed in the store is found out."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from registry_fixtures import BOOK, keep_tracking_uri, new_name, template_database
from servers import Server

from mlflow_edit import MlflowRegistry, apply, init, load, show
from mlflow_edit.cli import main
from mlflow_edit.core.digest import canonical_json, json_digest
from mlflow_edit.errors import BaseMismatchError, IntegrityError, MlflowEditError

Change = Callable[[bytes], bytes | None]


def flip(data: bytes) -> bytes:
    """Change one bit in the middle."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def flip_last(data: bytes) -> bytes:
    """Change one bit of the last byte: in a safetensors file, of a tensor."""
    return data[:-1] + bytes([data[-1] ^ 1])


def cut(data: bytes) -> bytes:
    return data[:-7]


def remove(data: bytes) -> None:
    return None


def to_lima(data: bytes) -> bytes:
    assert b"Rome" in data
    return data.replace(b"Rome", b"Lima")


def resealed(data: bytes) -> bytes:
    """Change a field, and make the digest inside fit."""
    fields = json.loads(data)
    del fields["digest"]
    fields |= {"author": "Mallory"} if "author" in fields else {"reliability": 0.125}
    return canonical_json({**fields, "digest": json_digest(fields)})


def later_format(data: bytes) -> bytes:
    return data.replace(b"/1", b"/9")


CASES = [
    ("patch.safetensors", flip_last, IntegrityError),
    ("patch.safetensors", flip, IntegrityError),
    ("patch.safetensors", cut, IntegrityError),
    ("patch.safetensors", remove, IntegrityError),
    ("edits.jsonl", to_lima, IntegrityError),
    ("edits.jsonl", remove, IntegrityError),
    ("batch.json", flip, IntegrityError),
    ("batch.json", later_format, IntegrityError),
    ("manifest.json", flip, IntegrityError),
    ("manifest.json", resealed, IntegrityError),
    ("manifest.json", later_format, IntegrityError),
    ("manifest.json", remove, IntegrityError),
    ("model.safetensors", flip_last, BaseMismatchError),
    ("model.safetensors", remove, BaseMismatchError),
    ("tokenizer.json", flip, BaseMismatchError),
    ("config.json", flip, MlflowEditError),
]
SERVER_CASES = [case for case in CASES if case[1] in (flip_last, to_lima, resealed, remove)]
LIGHT = ("manifest.json", "batch.json", "edits.jsonl", "patch.safetensors", "scorecard.json")


@dataclass
class Published:
    """An edited version `name@2`, and the folder that its store keeps artifacts in."""

    uri: str
    name: str
    artifacts: Path

    def file(self, name: str) -> Path:
        models = [p for p in self.artifacts.rglob(name) if self._mine(p)]
        assert len(models) == 1, models
        return models[0]

    def _mine(self, path: Path) -> bool:
        """Tell our version's files from those of root versions and of other tests."""
        if path.name == "manifest.json" or path.name == "scorecard.json":
            manifest = json.loads((path.parent / "manifest.json").read_bytes())
            return bool(manifest.get("message") == self.name)
        if path.name in LIGHT:
            return self.name.encode() in (path.parent / "edits.jsonl").read_bytes()
        return "components" in path.parts or path.parent.name == "model"

    @contextmanager
    def changed(self, name: str, change: Change) -> Iterator[None]:
        """Change a file in the store for the length of a context."""
        path = self.file(name)
        before, after = path.read_bytes(), change(path.read_bytes())
        assert before != after
        path.unlink()  # hard links keep the original
        if after is not None:
            path.write_bytes(after)
        try:
            yield
        finally:
            path.write_bytes(before)


def publish(uri: str, artifacts: Path, chat_folder: Path, suite: Any, folder: Path) -> Published:
    registry, name = MlflowRegistry(uri), new_name("tampered")
    init(name, base=str(chat_folder), registry=registry)
    file = folder / "edits.jsonl"
    file.write_text(json.dumps({"prompt": BOOK, "target": "Rome", "note": name}) + "\n")
    made = apply(name, [file], message=name, suite=suite, registry=registry)
    assert made.version == 2
    return Published(uri, name, artifacts)


@pytest.fixture(scope="module")
def on_sqlite(
    tmp_path_factory: pytest.TempPathFactory, chat_folder: Path, suite: Any
) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("tampering")
    (folder / "mlflow.db").write_bytes(template_database().read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        patch.chdir(folder)
        keep_tracking_uri(patch, uri)
        yield publish(uri, folder / "mlruns", chat_folder, suite, folder)


@pytest.fixture(scope="module")
def on_server(
    tmp_path_factory: pytest.TempPathFactory, server: Server, chat_folder: Path, suite: Any
) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("tampering")
    with pytest.MonkeyPatch.context() as patch:
        keep_tracking_uri(patch, server.uri)
        yield publish(server.uri, server.artifacts, chat_folder, suite, folder)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with an empty cache."""
    monkeypatch.setenv("MLEDIT_CACHE_DIR", str(tmp_path / "cache"))


def check(published: Published, name: str, change: Change, error: type[MlflowEditError]) -> None:
    ref = f"{published.name}@2"
    registry = MlflowRegistry(published.uri)
    with published.changed(name, change):
        with pytest.raises(error):
            load(ref, registry=registry)
        if name in LIGHT and name != "patch.safetensors":  # which show does not read
            with pytest.raises(error):
                show(ref, registry=registry)
    with load(ref, registry=registry):
        pass


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("name", "change", "error"), CASES)
def test_on_sqlite(
    on_sqlite: Published, name: str, change: Change, error: type[MlflowEditError]
) -> None:
    check(on_sqlite, name, change, error)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("name", "change", "error"), SERVER_CASES)
def test_on_a_server(
    on_server: Published, name: str, change: Change, error: type[MlflowEditError]
) -> None:
    check(on_server, name, change, error)


@pytest.mark.parametrize("change", [flip, resealed, cut, remove])
def test_a_scorecard(on_sqlite: Published, change: Change) -> None:
    registry = MlflowRegistry(on_sqlite.uri)
    with on_sqlite.changed("scorecard.json", change), pytest.raises(IntegrityError):
        show(f"{on_sqlite.name}@2", registry=registry)
    assert show(f"{on_sqlite.name}@2", registry=registry).version.version == 2


@pytest.mark.parametrize("change", [flip, resealed])
def test_through_pyfunc(on_sqlite: Published, change: Change) -> None:
    with on_sqlite.changed("manifest.json", change), pytest.raises(IntegrityError):
        mlflow.pyfunc.load_model(f"models:/{on_sqlite.name}/2")


def test_a_manifest_and_an_mlmodel_that_agree(on_sqlite: Published) -> None:
    """The digest that counts is among the LoggedModel's parameters, not beside the manifest."""
    folder = on_sqlite.file("manifest.json").parent
    genuine = json.loads((folder / "manifest.json").read_bytes())["digest"]
    forged = json.loads(resealed((folder / "manifest.json").read_bytes()))["digest"]
    before = (folder / "MLmodel").read_text()
    assert genuine in before
    (folder / "MLmodel").write_text(before.replace(genuine, forged))
    try:
        with on_sqlite.changed("manifest.json", resealed), pytest.raises(IntegrityError):
            mlflow.pyfunc.load_model(f"models:/{on_sqlite.name}/2")
    finally:
        (folder / "MLmodel").write_text(before)


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [("patch.safetensors", flip_last, 4), ("manifest.json", flip, 4), ("tokenizer.json", flip, 7)],
)
def test_the_exit_codes(
    on_sqlite: Published,
    capfd: pytest.CaptureFixture[str],
    name: str,
    change: Change,
    code: int,
) -> None:
    with on_sqlite.changed(name, change):
        assert main._exit_code(["ask", f"{on_sqlite.name}@2", BOOK, "--json", "-q"]) == code
    out, err = capfd.readouterr()
    error = json.loads(out)["error"]
    assert (error["exit_code"], err) == (code, "")


@pytest.mark.parametrize(
    "cached", ["bases/*/model/model.safetensors", "batches/*/patch.safetensors"]
)
def test_a_damaged_cache_is_dropped(
    on_server: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: str
) -> None:
    monkeypatch.setenv("MLEDIT_CACHE_DIR", str(tmp_path / "cache"))
    registry, ref = MlflowRegistry(on_server.uri), f"{on_server.name}@2"
    with load(ref, registry=registry):
        pass
    (file,) = (tmp_path / "cache").glob(cached)
    file.write_bytes(flip_last(file.read_bytes()))
    with pytest.raises((IntegrityError, BaseMismatchError)):
        load(ref, registry=registry)
    with load(ref, registry=registry):
        pass
    shutil.rmtree(tmp_path / "cache")
