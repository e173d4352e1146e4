"""MLflow's own evaluation measures a version by the product's own protocol."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from registry_fixtures import RIVER

from mlflow_edit import apply, evaluate, load, scorers
from mlflow_edit.core.edit import Edit
from mlflow_edit.errors import InvalidEdit, InvalidInputError
from mlflow_edit.mlflow_plugins.evaluator import MleditEvaluator
from mlflow_edit.registry.names import RESULTS, SCORECARD
from mlflow_plugins.conftest import EDITS


def evaluated(data: Any, suite_file: Path, model: Any = "models:/m/2", **more: Any) -> Any:
    return mlflow.models.evaluate(
        model=model,
        data=data,
        model_type="mledit",
        evaluators="mledit",
        evaluator_config={"suite": str(suite_file)},
        **more,
    )


def test_metrics_stand_at_the_version_with_their_dataset_and_protocol(
    version: str, edits_file: Path, suite_file: Path
) -> None:
    data = mlflow.data.from_edits(edits_file)
    with mlflow.start_run() as run:
        found = evaluated(data, suite_file)
    expected = {"reliability": 1.0, "retention": 1.0, "locality": 1.0, "perplexity_ratio": 1.0}
    assert {name: found.metrics[name] for name in expected} == expected
    shown = MlflowClient().get_logged_model(version).metrics
    own = {m.key: m for m in shown or [] if m.run_id == run.info.run_id}
    assert own["reliability"].value == 1.0
    assert own["n_retention"].value == 2
    assert (own["locality"].dataset_name, own["locality"].dataset_digest) == (
        "edits.jsonl", data.digest,
    )  # fmt: skip
    inputs = mlflow.get_run(run.info.run_id).inputs
    assert {one.dataset.digest for one in inputs.dataset_inputs} == {data.digest}
    assert [one.model_id for one in inputs.model_inputs] == [version]
    card = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{SCORECARD}"))
    assert card["protocol"]["decided_by"] == "free greedy generation"
    table = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{RESULTS}"))
    assert [row[5] for row in table["data"] if row[0] == "retention"] == ["Rome", "Oslo"]


def test_it_measures_what_the_verb_measures(
    version: str, edits_file: Path, suite: Any, suite_file: Path, write_edits: Any
) -> None:
    """To the digit, protocol and counts too; of reliability where all edits are of one batch."""
    more = write_edits((RIVER, "Lima"), name="more.jsonl")
    apply("m", [more], suite=suite)
    both = edits_file.parent / "both.jsonl"
    both.write_text(more.read_text() + edits_file.read_text())
    for number, file in (2, edits_file), (3, both):
        expected = evaluate(f"m@{number}", suite=suite_file).scorecard
        with mlflow.start_run() as run:
            found = evaluated(mlflow.data.from_edits(file), suite_file, model=f"models:/m/{number}")
        metrics, n_probes = expected.metrics(), dict(expected.n_probes)
        logged = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{SCORECARD}"))
        if number == 3:  # the verb asks for the reliability of the newest batch alone
            assert n_probes["reliability"] == 1
            n_probes["reliability"] = n_probes["retention"]
            metrics["reliability"] = metrics["retention"]
            metrics.pop("reliability_teacher_forced")
            found.metrics.pop("reliability_teacher_forced")
        assert found.metrics == metrics
        assert (logged["n_probes"], logged["protocol"]) == (n_probes, expected.protocol)


def test_a_table_of_edits_will_do(version: str, suite_file: Path) -> None:
    found = evaluated(mlflow.data.from_pandas(pd.DataFrame(EDITS)), suite_file)
    assert (found.metrics["reliability"], found.metrics["locality"]) == (1.0, 1.0)


@pytest.mark.parametrize("kind", ["arrays", "gaps", "targets"])
def test_a_table_is_read_however_pandas_holds_it(version: str, suite_file: Path, kind: str) -> None:
    table = pd.DataFrame(EDITS)
    named: dict[str, str] = {}
    if kind == "arrays":  # as from Parquet
        probe = {"prompt": EDITS[0]["locality"][0], "answers": None}
        table["rephrases"] = [np.array(["The book is where?"]), np.array([])]
        table["locality"] = [np.array([probe]), None]
    elif kind == "gaps":
        table["note"] = pd.array([pd.NA, "why"], dtype="string")
    else:
        table, named = table.rename(columns={"target": "right"}), {"targets": "right"}
    found = evaluated(table, suite_file, **named)
    assert (found.metrics["reliability"], found.metrics["locality"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"edit": ["{nope"]}),
        pd.DataFrame({"edit": ["[1]"]}),
        pd.DataFrame({"edit": ['{"prompt": "x", "target": "y"}', None]}),
        pd.DataFrame({"prompt": ["x", "y"], "target": ["z", float("nan")]}),
        pd.DataFrame({"prompt": ["x"]}),
        pd.DataFrame({"prompt": [], "target": []}),
    ],
)
def test_rows_that_are_no_edits_are_named(
    version: str, suite_file: Path, table: pd.DataFrame
) -> None:
    with pytest.raises(InvalidEdit, match=f"row {len(table)}: |no edits") as refused:
        evaluated(table, suite_file)
    assert "learned" not in refused.value.message


def test_a_setting_that_is_none_of_ours_is_refused(version: str) -> None:
    with pytest.raises(InvalidInputError, match="suit"):
        mlflow.models.evaluate(
            model="models:/m/2",
            data=pd.DataFrame(EDITS),
            model_type="mledit",
            evaluators="mledit",
            evaluator_config={"suit": "questions.jsonl"},
        )


def test_the_tables_of_the_run_stay_listed(
    version: str, edits_file: Path, suite_file: Path
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_table({"mine": [1]}, "mine.json")
        for _ in range(2):
            evaluated(mlflow.data.from_edits(edits_file), suite_file)
    listed = json.loads(mlflow.get_run(run.info.run_id).data.tags["mlflow.loggedArtifacts"])
    assert [table["path"] for table in listed] == ["mine.json", RESULTS]


def test_another_model_is_refused(tracking: str, edits_file: Path, suite_file: Path) -> None:
    with pytest.raises(InvalidInputError, match="versions of edited models"):
        evaluated(mlflow.data.from_edits(edits_file), suite_file, model=lambda table: ["?"])


def test_evaluations_of_other_models_are_left_alone(tracking: str) -> None:
    table = pd.DataFrame({"said": [1.0, 2.0], "right": [1.0, 2.0]})
    found = mlflow.models.evaluate(
        data=table, predictions="said", targets="right", model_type="regressor"
    )
    assert found.metrics["mean_absolute_error"] == 0.0


def test_a_version_is_measured_where_no_evaluator_is_named(
    version: str, edits_file: Path, suite_file: Path
) -> None:
    found = mlflow.models.evaluate(
        model="models:/m/2",
        data=mlflow.data.from_edits(edits_file),
        model_type="mledit",
        evaluator_config={"suite": str(suite_file)},
    )
    assert found.metrics["reliability"] == 1.0


def test_mlflow_finds_the_evaluator() -> None:
    from mlflow.models.evaluation.evaluator_registry import _model_evaluation_registry

    assert isinstance(_model_evaluation_registry.get_evaluator("mledit"), MleditEvaluator)


def test_scorers_judge_as_the_scorecard_does(
    version: str, edits_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_GENAI_EVAL_MAX_WORKERS", "4")
    edits = [Edit.model_validate(edit) for edit in EDITS]
    judges = [scorers.reliability, scorers.generality, scorers.locality, scorers.portability]
    with load("m@2") as edited:
        data = scorers.rows(edited, edits)
        found = mlflow.genai.evaluate(
            data=data, predict_fn=scorers.answering(edited), scorers=judges, model_id=version
        )
        base = mlflow.genai.evaluate(
            data=data, predict_fn=scorers.answering(edited, base_only=True), scorers=judges
        )
    assert [row["expectations"]["metric"] for row in data] == [
        "reliability", "reliability", "generality", "locality",
    ]  # fmt: skip
    assert (found.metrics["reliability/mean"], found.metrics["locality/mean"]) == (1.0, 1.0)
    assert "portability/mean" not in found.metrics
    assert (base.metrics["reliability/mean"], base.metrics["locality/mean"]) == (0.0, 1.0)
    keys = {m.key for m in MlflowClient().get_logged_model(version).metrics or []}
    assert "reliability/mean" in keys
