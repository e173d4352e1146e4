"""`mlflow.models.evaluate(…, evaluators="mledit")`: the scorecard of a version over given edits."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.models.evaluation.base import EvaluationResult, ModelEvaluator

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlflow_edit.core.edit_batch import EditBatch
    from mlflow_edit.core.edit_records import Record
    from mlflow_edit.evaluation.evaluate import Evaluation
    from mlflow_edit.evaluation.suite import Suite
    from mlflow_edit.mlflow_plugins.dataset import EditsDataset
    from mlflow_edit.models.edited_model import EditedModel

MODEL_TYPE = "mledit"
TABLES = "mlflow.loggedArtifacts"  # MLflow's tag of the tables that a run's page shows


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
        edits = _edits(dataset)
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


def _edits(data: Any) -> "EditBatch":
    """Read edits from a table: whole ones as JSON, or a column for each field."""
    from mlflow_edit.core.edit_file import edits_from_records
    from mlflow_edit.errors import InvalidEdit

    table = data.features_data
    if not hasattr(table, "to_dict"):
        raise InvalidEdit("the data are no table of edits", hint="mlflow.data.from_edits(FILE)")
    if data.has_targets:  # MLflow takes the column that is named as `targets` out of the table
        table = table.assign(target=data.labels_data)
    rows = enumerate(table.to_dict("records"), start=1)
    return edits_from_records([_record(f"row {i}", row) for i, row in rows]).batch


def _record(where: str, row: dict[Any, Any]) -> "Record":
    from mlflow_edit.core.edit_records import Record, parsed
    from mlflow_edit.mlflow_plugins.dataset import EDIT

    if EDIT not in row:
        return Record(where, _plain({str(name): value for name, value in row.items()}))
    if not isinstance(row[EDIT], str):
        return Record(where, problem=f"the column {EDIT!r} holds no edit as JSON")
    return parsed(where, row[EDIT])


def _plain(value: Any) -> Any:
    """Turn arrays into lists, and leave out what a table puts where there is nothing."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if not _is_nothing(item)}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _is_nothing(value: Any) -> bool:
    import pandas as pd

    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _suite(config: dict[str, Any]) -> "Suite":
    from mlflow_edit.errors import InvalidInputError
    from mlflow_edit.evaluation.suite import default_suite
    from mlflow_edit.operations.evaluate import read_suite

    file = config.get("suite")
    if config.keys() - {"suite"} or not isinstance(file, str | Path | None):
        raise InvalidInputError(
            f"no evaluator_config of mledit: {config}", hint='{"suite": "questions.jsonl"}'
        )
    return default_suite() if file is None else read_suite(Path(file))


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
    _list_table(client, run_id, RESULTS)


def _list_table(client: "MlflowClient", run_id: str, path: str) -> None:
    """Add a table to those that the run's page shows: the run may be the user's, with its own."""
    listed = json.loads(client.get_run(run_id).data.tags.get(TABLES, "[]"))
    table = {"path": path, "type": "table"}
    if table not in listed:
        client.set_tag(run_id, TABLES, json.dumps([*listed, table]))
