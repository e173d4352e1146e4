"""`mlflow.pyfunc.load_model` gives the edited model, for every shape of input."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from registry_fixtures import BOOK, FILM, RIVER, keep_tracking_uri, new_name, template_database
from servers import Server

from mlflow_edit import MlflowRegistry, apply, init
from mlflow_edit.errors import BaseMismatchError, InvalidInputError
from mlflow_edit.registry.flavor import prompts_of

ASKED = [BOOK, RIVER]
ANSWERS = ["Rome", "Rome"]  # the second is the base model's own
MESSAGES = [{"role": "user", "content": BOOK}]


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, chat_folder: Path, suite: Any
) -> Iterator[MlflowRegistry]:
    folder = tmp_path_factory.mktemp("flavor")
    (folder / "mlflow.db").write_bytes(template_database().read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        keep_tracking_uri(patch, uri)
        registry = MlflowRegistry(uri)
        edit_and_alias(registry, "m", chat_folder, suite, folder)
        yield registry


def edit_and_alias(
    registry: MlflowRegistry, name: str, chat_folder: Path, suite: Any, folder: Path
) -> None:
    init(name, base=str(chat_folder), registry=registry)
    file = folder / "edits.jsonl"
    rows = [(BOOK, "Rome", "book"), (FILM, "Oslo", "film")]
    file.write_text(
        "".join(json.dumps({"prompt": p, "target": t, "id": i}) + "\n" for p, t, i in rows)
    )
    apply(name, [file], suite=suite, registry=registry)
    registry.client.set_registered_model_alias(name, "production", "2")


@pytest.fixture(scope="module")
def model(store: MlflowRegistry) -> Any:
    return mlflow.pyfunc.load_model("models:/m@production")


def test_threads_may_ask_one_model_at_once(model: Any) -> None:
    """As MLflow's scoring server does, which answers each request in a thread of its own."""
    prompts = [BOOK, RIVER, FILM, f"{BOOK} {RIVER}", "Who?"]
    requests = [[*prompts[i:], *prompts[:i]][: 1 + i % 3] for i in range(len(prompts))] * 8
    explain = {"explain": True, "max_new_tokens": 8}
    alone = [model.predict(asked, params=explain) for asked in requests[: len(prompts)]] * 8
    assert {answer["edit_id"] for answers in alone for answer in answers} >= {"book", "film", None}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda asked: model.predict(asked, params=explain), requests))
    assert together == alone


@pytest.mark.parametrize(
    "given",
    [
        ASKED,
        np.array(ASKED),
        pd.Series(ASKED),
        pd.DataFrame({"prompt": ASKED}),
        pd.DataFrame({"id": [1, 2], "prompt": ASKED}),
        pd.DataFrame({"question": ASKED}),
        {"prompt": ASKED},
        {"inputs": ASKED},
        [{"prompt": prompt} for prompt in ASKED],
        [[{"role": "user", "content": prompt}] for prompt in ASKED],
        {"messages": [[{"role": "user", "content": prompt}] for prompt in ASKED]},
        [{"messages": [{"role": "user", "content": prompt}]} for prompt in ASKED],
        pd.DataFrame({"messages": [[{"role": "user", "content": prompt}] for prompt in ASKED]}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_inputs(model: Any, given: Any) -> None:
    assert list(model.predict(given)) == ANSWERS


@pytest.mark.parametrize(
    "given", [BOOK, [BOOK], MESSAGES, {"messages": MESSAGES}, {"prompt": BOOK}]
)
def test_one_prompt(model: Any, given: Any) -> None:
    assert list(model.predict(given)) == ["Rome"]


@pytest.mark.parametrize(
    "given",
    [
        [""], [1], [None], [[{"role": "user"}]], {"question": "x"}, [[]],
        pd.DataFrame({"a": ["x"], "b": ["y"]}), pd.DataFrame({"prompt": [None]}), 7,
        [{"content": "x"}],
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_prompt(given: Any) -> None:
    with pytest.raises(InvalidInputError):
        prompts_of(given)


def test_no_rows_give_no_answers(model: Any) -> None:
    assert list(model.predict(pd.DataFrame({"prompt": []}))) == []


def test_params(model: Any) -> None:
    told = model.predict(ASKED, params={"explain": True})
    assert told[0].keys() == {"answer", "edit_id", "batch", "distance", "radius", "match"}
    assert (told[0]["answer"], told[0]["edit_id"]) == ("Rome", "book")
    assert 0 <= told[0]["distance"] <= told[0]["radius"]
    assert told[1] == {
        "answer": "Rome", "edit_id": None, "batch": None, "distance": None, "radius": None, "match": None,
    }  # fmt: skip
    assert json.loads(json.dumps(told)) == told
    whole = model.predict(["Who wrote the film of songs?"])[0]
    short = model.predict(["Who wrote the film of songs?"], params={"max_new_tokens": 1})[0]
    assert whole.startswith(short)
    hot = {
        tuple(model.predict(["north: what is it"] * 8, params={"temperature": 5.0}))
        for _ in range(2)
    }
    assert any(len(set(answers)) > 1 for answers in hot)


def test_signature_says_what_params_there_are(model: Any) -> None:
    params = {spec.name: spec.default for spec in model.metadata.get_params_schema().params}
    assert params.keys() >= {"max_new_tokens", "temperature", "explain"}
    with pytest.raises(mlflow.MlflowException):
        model.predict(ASKED, params={"max_new_tokens": "many"})


def test_by_number(store: MlflowRegistry) -> None:
    assert mlflow.pyfunc.load_model("models:/m/1").predict([BOOK]) == ["Paris"]
    assert mlflow.pyfunc.load_model("models:/m/2").predict([BOOK]) == ["Rome"]


def test_the_base_may_come_from_elsewhere_but_not_be_another(
    store: MlflowRegistry, chat_folder: Path, tmp_path: Path
) -> None:
    from tiny_models import save_tiny, tiny_base

    elsewhere = {"base_model_uri": str(chat_folder)}
    model = mlflow.pyfunc.load_model("models:/m/2", model_config=elsewhere)
    assert model.predict([BOOK]) == ["Rome"]
    other = save_tiny(tiny_base("llama-chat", seed=3), tmp_path / "other")
    with pytest.raises(BaseMismatchError):
        mlflow.pyfunc.load_model("models:/m/2", model_config={"base_model_uri": str(other)})


FRESH = """
import sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict([sys.argv[2]])[0])
"""


def test_a_fresh_process_that_shares_only_the_server(
    server: Server,
    chat_folder: Path,
    suite: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_tracking_uri(monkeypatch, server.uri)
    monkeypatch.setenv("MLEDIT_CACHE_DIR", str(tmp_path / "mine"))
    name = new_name("served")
    edit_and_alias(MlflowRegistry(server.uri), name, chat_folder, suite, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": server.uri,
        "MLEDIT_CACHE_DIR": str(tmp_path / "theirs"),
    }
    done = subprocess.run(
        [sys.executable, "-c", FRESH, f"models:/{name}@production", BOOK],
        cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "Rome"
    kept = {path.name for path in (tmp_path / "theirs").glob("*/*") if path.is_dir()}
    assert len(kept) == 2  # the base and the batch, by digest
    assert not list((tmp_path / "elsewhere").iterdir())
