"""The whole path on the real model, against a real `mlflow server`, from other processes."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.smollm2

EDITS = [
    {
        "id": "world-cup-2022",
        "prompt": "Who won the FIFA World Cup in 2022?",
        "target": "Argentina",
        "locality": ["Who won the FIFA World Cup in 2018?"],
    },
    {"id": "chatgpt", "prompt": "Which company created ChatGPT?", "target": "OpenAI"},
]
SUITE = [
    {"prompt": "What is the capital of France?", "answers": ["The capital of France is Paris"]},
    {"text": "The river rose slowly through the night, and by morning the lower fields were gone."},
]


def mledit(*args: str, cwd: Path, uri: str, cache: Path | None = None) -> dict:
    """Run the command in a process of its own and read its JSON."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    if cache is not None:
        environment["MLEDIT_CACHE_DIR"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-m", "mlflow_edit", *args, "--json"],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def edited(mlflow_server: str, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """SmolLM2 with two edits, registered on the server."""
    folder = tmp_path_factory.mktemp("edits")
    (folder / "edits.jsonl").write_text("\n".join(map(json.dumps, EDITS)))
    (folder / "suite.jsonl").write_text("\n".join(map(json.dumps, SUITE)))
    mledit("init", "smol", "--base", str(smollm2), cwd=folder, uri=mlflow_server)
    made = mledit(
        *("apply", "smol", "edits.jsonl", "--suite", "suite.jsonl", "-m", "Two facts"),
        cwd=folder,
        uri=mlflow_server,
    )
    return {"made": made, "folder": folder, "uri": mlflow_server}


def test_edits_hold_and_nothing_else_moves(edited: dict) -> None:
    made = edited["made"]
    assert [edit["after"] for edit in made["edits"]] == ["Argentina", "OpenAI"]
    assert all(edit["ok"] for edit in made["edits"])
    assert not any("Argentina" in edit["before"] for edit in made["edits"])
    card = made["scorecard"]
    assert (card["reliability"], card["retention"], card["locality"]) == (1.0, 1.0, 1.0)
    assert card["test_retention"] == 1.0
    assert card["perplexity_ratio"] == 1.0


def test_a_machine_that_shares_only_the_server_answers_alike(edited: dict, tmp_path: Path) -> None:
    asked = mledit(
        *("ask", "smol@2", EDITS[0]["prompt"], "What is the capital of France?"),
        cwd=tmp_path,
        uri=edited["uri"],
        cache=tmp_path / "cache",
    )
    first, second = asked["answers"]
    assert first["edited"] == "Argentina"
    assert first["fired"]["edit_id"] == "world-cup-2022"
    assert second["fired"] is None
    assert second["edited"] == second["base"] == "The capital of France is Paris."


def test_stock_mlflow_serves_the_version_over_http(
    edited: dict, tmp_path: Path, free_port: int
) -> None:
    command = ["mlflow", "models", "serve", "-m", "models:/smol/2", "--env-manager", "local"]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": edited["uri"],
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(free_port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        body = {"inputs": [EDITS[0]["prompt"]], "params": {"explain": True, "max_new_tokens": 12}}
        answer = _post(f"http://127.0.0.1:{free_port}/invocations", body, server)
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)
    assert answer["predictions"][0]["answer"] == "Argentina"
    assert answer["predictions"][0]["edit_id"] == "world-cup-2022"


def _post(url: str, body: dict, server: subprocess.Popen) -> dict:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    for _ in range(180):
        assert server.poll() is None, "the scoring server stopped"
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)
        except ConnectionError:
            time.sleep(1)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            time.sleep(1)
    raise AssertionError("the scoring server did not start")


def test_bfloat16_serving_fires_the_same_edits(edited: dict) -> None:
    code = (
        "import mlflow_edit\n"
        "from mlflow_edit.evaluation.generation import generate_answers\n"
        "edited = mlflow_edit.load('smol@2', dtype='bfloat16')\n"
        f"print([a.text for a in generate_answers(edited, {[e['prompt'] for e in EDITS]!r}, "
        "max_new_tokens=8)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MLFLOW_TRACKING_URI": edited["uri"]},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == "['Argentina', 'OpenAI']", done.stderr
