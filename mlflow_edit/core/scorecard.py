"""What was measured of one version, and how: the numbers never travel without their protocol."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from mlflow_edit.core.sealed import Sealed
from mlflow_edit.core.text import NORMAL, READABLE

SCORECARD_FORMAT: Final = "mledit.scorecard/1"

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, NORMAL, READABLE]

HEADLINE = (
    "reliability",
    "generality",
    "locality",
    "portability",
    "retention",
    "test_retention",
    "perplexity_ratio",
)


class Scorecard(Sealed):
    """All metrics of one version; a metric without probes is null, never zero.

    Shares are of probes, in [0, 1], decided by free greedy generation. `*_teacher_forced` is the
    mean share of target tokens that are the model's first choice given the target's beginning.
    """

    what: ClassVar[str] = "scorecard"

    format: Literal["mledit.scorecard/1"] = SCORECARD_FORMAT
    reliability: Share | None = None
    generality: Share | None = None
    locality: Share | None = None
    portability: Share | None = None
    retention: Share | None = None
    test_retention: Share | None = None
    test_accuracy: Share | None = None
    test_accuracy_base: Share | None = None
    perplexity: Annotated[float, Field(gt=0)] | None = None
    perplexity_ratio: Annotated[float, Field(gt=0)] | None = None
    locality_kl: Annotated[float, Field(ge=0)] | None = None
    reliability_teacher_forced: Share | None = None
    generality_teacher_forced: Share | None = None
    portability_teacher_forced: Share | None = None
    n_probes: dict[Name, int] = {}
    protocol: dict[Name, Name | int | float | bool] = {}

    def metrics(self) -> dict[str, float]:
        """Return every number that was measured, by name."""
        dumped = self.model_dump(exclude={"format", "n_probes", "protocol"})
        return {name: float(value) for name, value in dumped.items() if value is not None}


def share(hits: Sequence[bool]) -> float | None:
    """Return the share of hits, or None where there was nothing to hit."""
    return sum(hits) / len(hits) if hits else None


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None of nothing."""
    return sum(values) / len(values) if values else None


def changes(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, Any]:
    """Return `{metric: new - old}` for the metrics that both have."""
    return {name: new[name] - old[name] for name in new if name in old}
