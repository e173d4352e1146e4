"""What MLflow itself loads, by entry points. `import mlflow` imports some of it: keep it light."""
