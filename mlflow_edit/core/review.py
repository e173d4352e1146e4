"""All that a reviewer is shown of one version: the input of the review page."""

from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.gate import GateResult
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.results import ProbeResult, Provenance, ScopeView, Unsolved, WeightsView
from mlflow_edit.core.scorecard import Scorecard


class Measured(FrozenModel):
    """Another version to compare with: its number, and what was measured of it."""

    version: int
    scorecard: Scorecard


class GateVerdict(FrozenModel):
    """A version held against a gate: the one of an alias, or (None) the default."""

    alias: str | None = None
    gate: GateResult


class Comparison(FrozenModel):
    """What a version is compared with.

    `parent` is the first one, `production` what holds that alias; None where there is none, where
    nothing was measured of it, or where it is the parent (`parent_in_production`).
    """

    parent: Measured | None = None
    production: Measured | None = None
    parent_in_production: bool = False
    verdict: GateVerdict | None = None


class Review(FrozenModel):
    """One version, ready to be shown. `batch` is the one of its own, where one was learned."""

    name: str
    verb: str = "apply"
    manifest: Manifest
    batch: str | None = None
    scorecard: Scorecard
    comparison: Comparison = Comparison()
    warnings: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    taken: tuple[Edit, ...] = ()
    returned: tuple[Edit, ...] = ()
    results: tuple[ProbeResult, ...] = ()
    unsolved: tuple[Unsolved, ...] = ()
    scopes: tuple[ScopeView, ...] = ()
    weights: WeightsView = WeightsView()
    provenance: Provenance | None = None
    editor: str = ""
    params: dict[str, str | int | float | bool | None] = {}
    seconds: float | None = None
