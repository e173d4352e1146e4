"""`python -m mlflow_edit` is `mledit`."""

from mlflow_edit.cli.main import run

run()
