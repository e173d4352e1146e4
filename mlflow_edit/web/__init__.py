"""The pages inside the MLflow server."""
