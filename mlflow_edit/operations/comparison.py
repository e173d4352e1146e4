"""What a reviewer compares a new version with: its parent, what is in production, a gate."""

from collections.abc import Sequence

from mlflow_edit.core.gate import default_gate
from mlflow_edit.core.ledger import gate_of
from mlflow_edit.core.review import Comparison, GateVerdict, Measured
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.operations.aliases import holder_of
from mlflow_edit.registry.registry import Registry, VersionInfo

PRODUCTION = "production"


def compare(
    registry: Registry, name: str, parents: Sequence[VersionInfo], scorecard: Scorecard
) -> Comparison:
    """Hold what was measured of a new version against what there is.

    The gate is the one that stands on the model for production; else the one that it was last
    moved past, or refused by; else the default.

    Raises:
        IntegrityError: a scorecard to compare with was changed or damaged.
    """
    parent = parents[0] if parents else None
    holder = holder_of(registry, name, PRODUCTION)
    same = holder is not None and parent is not None and holder.digest == parent.digest
    before = _measured(registry, parent)
    current = before if same else _measured(registry, holder)
    gate = registry.gates(name).get(PRODUCTION) or gate_of(registry.ledger(name), PRODUCTION)
    result = (gate or default_gate(scorecard)).check(
        scorecard, current.scorecard if current else None
    )
    return Comparison(
        parent=before,
        production=None if same else current,
        parent_in_production=same,
        verdict=GateVerdict(alias=PRODUCTION if gate else None, gate=result),
    )


def _measured(registry: Registry, info: VersionInfo | None) -> Measured | None:
    """Return what was measured of a version; of a root nothing is."""
    if info is None:
        return None
    scorecard = registry.scorecard(info, registry.manifest(info))
    return Measured(version=info.version, scorecard=scorecard) if scorecard.metrics() else None
