"""What is internal to MLflow: named where it is missing, and kept inside its bounds."""

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlflow_edit.errors import RegistryError
from mlflow_edit.web import mlflow_server


def test_what_this_mlflow_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("mlflow.server.auth._get_registered_model_permission")
    with pytest.raises(RegistryError, match="_get_registered_model_permission, which MLflow") as it:
        mlflow_server.BasicAuthAccess()
    assert it.value.hint


@pytest.mark.parametrize("path", ["../secret", "1/../../secret", "1/%2e%2e/%2e%2e/secret", "a\\b"])
def test_no_location_leads_out_of_the_destination(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(tmp_path))
    with pytest.raises(MlflowException, match="no place for artifacts"):
        mlflow_server._artifact_repository(f"mlflow-artifacts:/{path}")


def test_a_location_is_resolved_to_the_destination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(tmp_path))
    (tmp_path / "1" / "run").mkdir(parents=True)
    (tmp_path / "1" / "run" / "a.txt").write_text("here")
    repository = mlflow_server._artifact_repository("mlflow-artifacts:/1/run")
    assert [item.path for item in repository.list_artifacts()] == ["a.txt"]
