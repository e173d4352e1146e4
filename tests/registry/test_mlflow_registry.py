"""How a version lives in MLflow: lineage, metrics, tags, documents, write-once facts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from registry_fixtures import BOOK, FILM

from mlflow_edit import MlflowRegistry, apply, evaluate, init, log
from mlflow_edit.errors import RegistryError, VersionNotFound
from mlflow_edit.operations.apply import Applied
from mlflow_edit.registry.mlflow_publish import SHORT
from mlflow_edit.registry.names import BASES_EXPERIMENT, RESULTS, REVIEW


@pytest.fixture
def made(
    sqlite_registry: MlflowRegistry, chat_folder: Path, suite: Any, write_edits: Callable[..., Path]
) -> Applied:
    init("m", base=str(chat_folder), registry=sqlite_registry)
    edits = write_edits({"prompt": BOOK, "target": "Rome", "id": "book"}, (FILM, "Oslo"))
    return apply("m", [edits], message="Move | them\n*now*", suite=suite, registry=sqlite_registry)


def version(registry: MlflowRegistry, number: int) -> ModelVersion:
    return registry.client.get_model_version("m", str(number))


def test_metrics_belong_to_the_model_and_to_the_edits(
    sqlite_registry: MlflowRegistry, made: Applied
) -> None:
    model = sqlite_registry.client.get_logged_model(made.model_id)
    assert str(model.status) == "READY"
    metrics = {metric.key: metric for metric in model.metrics}
    assert metrics["reliability"].value == 1.0
    assert metrics["n_reliability"].value == 2
    assert "portability" not in metrics
    for metric in metrics.values():
        assert (metric.model_id, metric.run_id) == (made.model_id, made.run_id)
        assert metric.dataset_name == "m-edits"
        assert metric.dataset_digest
    run = sqlite_registry.client.get_run(made.run_id)
    assert run.data.metrics["reliability"] == 1.0


def test_lineage(sqlite_registry: MlflowRegistry, made: Applied) -> None:
    run = sqlite_registry.client.get_run(made.run_id)
    assert run.info.status == "FINISHED"
    base = made.base.uri.removeprefix("models:/")
    assert [item.model_id for item in run.inputs.model_inputs] == [base]
    assert [item.model_id for item in run.outputs.model_outputs] == [made.model_id]
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "m-edits"
    assert made.batch is not None
    assert json.loads(dataset.dataset.source)["batch"] == made.batch.digest
    assert json.loads(dataset.dataset.profile) == {"n_edits": 2}
    assert {tag.key: tag.value for tag in dataset.tags}["mlflow.data.context"] == "edits"


def test_parameters_and_tags(sqlite_registry: MlflowRegistry, made: Applied) -> None:
    run = sqlite_registry.client.get_run(made.run_id)
    assert made.batch is not None
    assert run.data.params["batch"] == made.batch.digest
    assert run.data.params["grace.max_steps"] == "100"
    assert (run.data.params["editor"], run.data.params["n_edits"]) == ("grace", "2")
    assert run.data.tags["mledit.verb"] == "apply"
    assert run.data.tags["mledit.digest"] == made.digest
    assert run.data.tags["mlflow.source.name"] == "edits.jsonl"
    found = version(sqlite_registry, 2)
    assert found.tags == {
        "mledit.digest": made.digest[:12],
        "mledit.edits": "2",
        "mledit.verb": "apply",
    }
    assert (found.run_id, found.source) == (made.run_id, f"models:/{made.model_id}")
    assert sqlite_registry.client.get_registered_model("m").tags == {"mledit.model": "1"}


def test_documents_of_the_run(sqlite_registry: MlflowRegistry, made: Applied) -> None:
    files = {item.path for item in sqlite_registry.client.list_artifacts(made.run_id)}
    assert files == {"batches", RESULTS, REVIEW}
    info = sqlite_registry.versions("m")[-1]
    page = sqlite_registry.document(info, REVIEW)
    assert page is not None
    assert page.startswith(b"<!doctype html>")
    table = json.loads(sqlite_registry.document(info, RESULTS) or b"")
    assert {row[table["columns"].index("metric")] for row in table["data"]} >= {"reliability"}
    run = sqlite_registry.client.get_run(made.run_id)
    frame = sqlite_registry.client.load_table(
        run.info.experiment_id, RESULTS, run_ids=[made.run_id]
    )
    assert list(frame["after"])[:2] == ["Rome", "Oslo"]


def test_files_of_the_version(made: Applied) -> None:
    (folder,) = Path("mlruns").rglob(f"models/{made.model_id}/artifacts")
    assert {path.name for path in folder.iterdir()} == {
        "MLmodel", "manifest.json", "scorecard.json", "requirements.txt",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000
    assert not list(Path("mlruns").rglob("*.pkl"))


def test_the_description_is_markdown(sqlite_registry: MlflowRegistry, made: Applied) -> None:
    text = version(sqlite_registry, 2).description
    assert text.splitlines()[0].startswith("**Move \\| them \\*now\\*** — ")
    assert f"| {BOOK} | Paris | Rome | ok |" in text
    assert "| reliability |" in text
    assert made.run_id in text


def test_facts_are_written_once(sqlite_registry: MlflowRegistry, made: Applied) -> None:
    client = sqlite_registry.client
    before = client.get_logged_model(made.model_id).params
    for key in ("mledit.digest", "mledit.parent_0", "mledit.n_edits"):
        with pytest.raises(MlflowException):
            client.log_model_params(made.model_id, {key: "0" * 64})
    assert client.get_logged_model(made.model_id).params == before
    assert sqlite_registry.versions("m")[-1].digest == made.digest


def test_tags_and_descriptions_may_change_and_nothing_follows(
    sqlite_registry: MlflowRegistry, made: Applied
) -> None:
    before = log("m", registry=sqlite_registry)
    client = sqlite_registry.client
    client.set_model_version_tag("m", "2", "mledit.digest", "0" * 12)
    client.update_model_version("m", "2", "changed")
    client.set_logged_model_tags(made.model_id, {"mledit.digest": "0" * 64})
    assert log("m", registry=sqlite_registry) == before


def test_aliases(sqlite_registry: MlflowRegistry, made: Applied) -> None:
    for alias, number in (("production", 1), ("candidate", 2), ("a-b_1", 2)):
        sqlite_registry.client.set_registered_model_alias("m", alias, str(number))
    assert [v.aliases for v in sqlite_registry.versions("m")] == [
        ("production",), ("a-b_1", "candidate"),
    ]  # fmt: skip
    assert log("m", registry=sqlite_registry).versions[0].aliases == ("a-b_1", "candidate")


def test_a_later_evaluation_does_not_change_what_was_registered(
    sqlite_registry: MlflowRegistry, made: Applied, tmp_path: Path
) -> None:
    suite = tmp_path / "other.jsonl"
    suite.write_text('{"prompt": "Where is the river?", "answers": ["Rome"]}\n')
    before = log("m", registry=sqlite_registry)
    found = evaluate("m@2", suite=suite, registry=sqlite_registry)
    assert found.scorecard.test_accuracy == 1.0
    assert log("m", registry=sqlite_registry) == before
    run = sqlite_registry.client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mledit.evaluates"] == made.digest
    assert run.data.metrics["test_accuracy"] == 1.0
    models = sqlite_registry.client.get_logged_model(made.model_id).metrics
    assert {m.run_id for m in models} == {made.run_id, found.run_id}


def test_a_base_is_logged_once_and_loads_as_a_transformers_model(
    sqlite_registry: MlflowRegistry, made: Applied, chat_folder: Path
) -> None:
    init("other", base=str(chat_folder), registry=sqlite_registry)
    experiment = sqlite_registry.client.get_experiment_by_name(BASES_EXPERIMENT)
    models = sqlite_registry.client.search_logged_models([experiment.experiment_id])
    assert [f"models:/{model.model_id}" for model in models] == [made.base.uri]
    pipeline = mlflow.transformers.load_model(made.base.uri)
    assert type(pipeline.model).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("kind", ["number", "alias", "id"])
def test_a_base_that_somebody_registered(
    sqlite_registry: MlflowRegistry, made: Applied, kind: str
) -> None:
    client = sqlite_registry.client
    client.create_registered_model("base")
    client.create_model_version("base", made.base.uri, model_id=made.base.uri.split("/")[1])
    client.set_registered_model_alias("base", "live", "1")
    uri = {"number": "models:/base/1", "alias": "models:/base@live", "id": made.base.uri}[kind]
    root = init("over", base=uri, registry=sqlite_registry)
    assert (root.base.uri, root.base.digest) == (made.base.uri, made.base.digest)
    assert root.base.source == uri


def test_other_peoples_models_are_left_alone(
    sqlite_registry: MlflowRegistry, made: Applied
) -> None:
    sqlite_registry.client.create_registered_model("theirs")
    assert sqlite_registry.models() == ["m"]
    with pytest.raises(VersionNotFound):
        sqlite_registry.versions("theirs")


def test_a_long_message_is_whole_in_the_manifest(
    sqlite_registry: MlflowRegistry, chat_folder: Path
) -> None:
    text = "über " * 3000
    root = init("m", base=str(chat_folder), message=text, registry=sqlite_registry)
    info = sqlite_registry.versions("m")[0]
    assert len(info.message) == SHORT
    assert root.message == sqlite_registry.manifest(info).message == text


def test_many_versions_are_listed_from_few_queries(
    sqlite_registry: MlflowRegistry, made: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow_edit.registry.mlflow_versions.PAGE", 1)
    assert [v.version for v in sqlite_registry.versions("m")] == [1, 2]

    def never(*_: object) -> None:
        raise AssertionError("a list of versions reads no artifact")

    monkeypatch.setattr("mlflow_edit.registry.mlflow_artifacts.read_model_file", never)
    monkeypatch.setattr("mlflow_edit.registry.mlflow_artifacts.read_run_files", never)
    assert len(log("m", registry=sqlite_registry).versions) == 2


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "/tmp/mlruns"])
def test_folders_of_files_are_refused(tracking: str, uri: str) -> None:
    with pytest.raises(RegistryError, match="folder of files"):
        MlflowRegistry(uri)
