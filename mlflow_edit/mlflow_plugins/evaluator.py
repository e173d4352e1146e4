"""`mlflow.models.evaluate(…, evaluators="mledit")`: the scorecard of a version over given edits."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.models.evaluation.base import EvaluationResult, ModelEvaluator

if TYPE_CHECKING:
    from mlflow_edit.core.edit_batch import EditBatch
    from mlflow_edit.evaluation.evaluate import Evaluation
    from mlflow_edit.evaluation.suite import Suite
    from mlflow_edit.mlflow_plugins.dataset import EditsDataset
    from mlflow_edit.models.edited_model import EditedModel

MODEL_TYPE = "mledit"


class MleditEvaluator(ModelEvaluator):  # type: ignore[misc]
    """Measures an edited model by the protocol of every scorecard: free greedy generation.

    `evaluator_config` may hold `suite`, a file of questions and texts for test retention.
    """

    @classmethod
    def can_evaluate(cls, *, model_type: Any, evaluator_config: Any, **more: Any) -> bool:
        """Say yes to our own model type alone.

        Where no evaluators are named MLflow runs each that says yes, and fails if one of them does.
        """
        return bool(model_type == MODEL_TYPE)

    def evaluate(
        self,
        *,
        model_type: Any,
        dataset: Any,
        run_id: str,
        evaluator_config: dict[str, Any] | None,
        model: Any = None,
        **more: Any,
    ) -> EvaluationResult:
        """Measure, and log metrics to the run and to the LoggedModel, with the dataset.

        Raises:
            InvalidInputError: the model is not an edited one, or the rows are no edits.
        """
        from mlflow_edit.evaluation.evaluate import evaluate
        from mlflow_edit.mlflow_plugins.dataset import of_edits

        edited = _edited_model(model)
        edits = _edits(dataset.features_data)
        measured = evaluate(
            edited, list(edits), new=frozenset(), suite=_suite(evaluator_config or {})
        )
        model_id = more.get("model_id") or model.model_id  # MLflow knows it only of models:/m-…
        _log(run_id, model_id, of_edits(edits, dataset.name), measured)
        return EvaluationResult(metrics=measured.scorecard.metrics(), artifacts={})


def _edited_model(model: Any) -> "EditedModel":
    from mlflow_edit.errors import InvalidInputError
    from mlflow_edit.registry.flavor import PyfuncModel

    inner = getattr(model, "_model_impl", None)
    if not isinstance(inner, PyfuncModel):
        raise InvalidInputError(
            "the evaluator mledit measures versions of edited models",
            hint='mlflow.models.evaluate("models:/NAME/3", data, evaluators="mledit", …)',
        )
    return inner.edited


def _edits(table: Any) -> "EditBatch":
    """Read edits from a table: whole ones as JSON, or a column for each field."""
    from mlflow_edit.core.edit_file import Record, edits_from_records
    from mlflow_edit.errors import InvalidEdit
    from mlflow_edit.mlflow_plugins.dataset import EDIT

    if not hasattr(table, "to_dict"):
        raise InvalidEdit("the data are no table of edits", hint="mlflow.data.from_edits(FILE)")
    rows = table.to_dict("records")
    if rows and EDIT in rows[0]:
        rows = [json.loads(row[EDIT]) for row in rows]
    rows = [{key: value for key, value in row.items() if value == value} for row in rows]  # no NaN
    return edits_from_records(
        [Record(f"row {i}", row) for i, row in enumerate(rows, start=1)]
    ).batch


def _suite(config: dict[str, Any]) -> "Suite":
    from mlflow_edit.evaluation.suite import default_suite
    from mlflow_edit.operations.evaluate import read_suite

    return read_suite(Path(config["suite"])) if config.get("suite") else default_suite()


def _log(run_id: str, model_id: str | None, data: "EditsDataset", measured: "Evaluation") -> None:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, LoggedModelInput

    from mlflow_edit.operations.publication import results_table
    from mlflow_edit.registry.mlflow_publish import scorecard_metrics
    from mlflow_edit.registry.names import RESULTS, SCORECARD

    client, entity, card = MlflowClient(), data._to_mlflow_entity(), measured.scorecard
    models = [LoggedModelInput(model_id)] if model_id else None
    client.log_inputs(run_id, [DatasetInput(entity, [])], models=models)
    metrics = scorecard_metrics(card, model_id=model_id, run_id=run_id, dataset=entity)
    client.log_batch(run_id, metrics=metrics)
    client.log_text(run_id, card.to_bytes().decode(), SCORECARD)
    client.log_text(run_id, results_table(measured.results).decode(), RESULTS)
    tables = json.dumps([{"path": RESULTS, "type": "table"}])
    client.set_tag(run_id, "mlflow.loggedArtifacts", tables)
