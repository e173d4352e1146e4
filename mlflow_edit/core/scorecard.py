"""What was measured of one version, and how: the numbers never travel without their protocol."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from mlflow_edit.core.digest import canonical_json, json_digest
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.manifest import read_sealed
from mlflow_edit.core.text import NORMAL, READABLE
from mlflow_edit.errors import IntegrityError

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


class Scorecard(FrozenModel):
    """All metrics of one version; a metric without probes is null, never zero.

    Shares are of probes, in [0, 1], decided by free greedy generation. `*_teacher_forced` is the
    mean share of target tokens that are the model's first choice given the target's beginning.
    """

    model_config = ConfigDict(allow_inf_nan=False)

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

    @property
    def digest(self) -> str:
        """Name the scorecard by its content."""
        return json_digest(self.model_dump(mode="json"))

    def metrics(self) -> dict[str, float]:
        """Return every number that was measured, by name."""
        dumped = self.model_dump(exclude={"format", "n_probes", "protocol"})
        return {name: float(value) for name, value in dumped.items() if value is not None}

    def to_bytes(self) -> bytes:
        """Write the canonical JSON of the scorecard and its own digest."""
        return canonical_json({**self.model_dump(mode="json"), "digest": self.digest})

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str | None = None) -> "Scorecard":
        """Read and verify a scorecard. Law: `from_bytes(s.to_bytes()) == s`.

        Raises:
            UnsupportedFormat, DigestMismatch, IntegrityError: as `Manifest.from_bytes`.
        """
        fields = read_sealed(data, format=SCORECARD_FORMAT, what="scorecard", digest=digest)
        try:
            scorecard = cls.model_validate_json(canonical_json(fields))
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise IntegrityError(f"the scorecard is malformed: {said}") from error
        if scorecard.digest != json_digest(fields):
            raise IntegrityError("the scorecard is not in canonical form")
        return scorecard


def share(hits: Sequence[bool]) -> float | None:
    """Return the share of hits, or None where there was nothing to hit."""
    return sum(hits) / len(hits) if hits else None


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None of nothing."""
    return sum(values) / len(values) if values else None


def changes(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, Any]:
    """Return `{metric: new - old}` for the metrics that both have."""
    return {name: new[name] - old[name] for name in new if name in old}
