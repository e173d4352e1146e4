"""Let a gate stand on a model, so that nobody moves an alias past it."""

from pathlib import Path

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.gate import Gate
from mlflow_edit.core.protection import MAX_GATE_TAG, MAX_PROTECTED
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.operations.aliases import checked_alias
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.promote import read_gate
from mlflow_edit.registry.names import model_name
from mlflow_edit.registry.registry import Registry


class Protection(FrozenModel):
    """The gates that stand on a model, by the alias that each protects."""

    name: str
    gates: dict[str, Gate]


def protect(
    name: str,
    alias: str | None = None,
    *,
    gate: str | Path | Gate | None = None,
    off: bool = False,
    registry: Registry | None = None,
) -> Protection:
    """Put a gate on an alias of a model, or take it off; every `promote` to the alias must meet it.

    A server with a registry store that enforces gates holds every other client to it as well.

    Args:
        name: the model.
        alias: the alias; None only tells which gates there are.
        gate: thresholds, or a YAML file of them; one without any asks for a recorded promotion.
        off: take the gate off.
        registry: where; None takes MLflow's setting.

    Raises:
        InvalidInputError: no alias can have that name, or the gate is malformed or too long.
        GateError: the server lets only who may manage the model change a gate.
    """
    if (alias is None) != (gate is None and not off) or (gate is not None and off):
        raise InvalidInputError(
            "an alias is protected by a gate, or no more protected",
            hint="mledit protect NAME ALIAS --gate FILE, or --off.",
        )
    registry, name = open_registry(registry), model_name(name)
    if alias is not None:
        made = gate if isinstance(gate, Gate) or gate is None else read_gate(Path(gate))
        _check_size(checked_alias(alias), made)
        registry.set_gate(name, alias, made)
    return Protection(name=name, gates=registry.gates(name))


def _check_size(alias: str, gate: Gate | None) -> None:
    length = len(canonical_json(gate.written())) if gate is not None else 0
    if length > MAX_GATE_TAG or len(alias) > MAX_PROTECTED:
        raise InvalidInputError(
            f"the gate has {length:,} characters and its alias {len(alias)}",
            hint=f"At most {MAX_GATE_TAG:,} and {MAX_PROTECTED} are kept.",
        )
