"""What a version must meet before an alias is moved to it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from mlflow_edit.core.approval import Approvals, Opinion, summary_of
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.plain_yaml import compose, plain
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import InvalidInputError

METRICS = frozenset(Scorecard.model_fields) - {"format", "n_probes", "protocol"}
LOWER_IS_BETTER = frozenset({"perplexity", "perplexity_ratio", "locality_kl"})
OF_EDITS = frozenset({"reliability", "generality", "portability", "retention"})  # no suite's
MAX_GATE = 64 * 1024
DEFAULT_MIN = {"retention": 0.9, "locality": 0.95, "test_retention": 0.95}
DEFAULT_MAX = {"perplexity_ratio": 1.05}

Threshold = Annotated[float, Field(allow_inf_nan=False)]
Tolerance = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
MetricName = Annotated[str, Field(max_length=60)]


class Check(FrozenModel):
    """One threshold, and whether it was met. `value` is None where nothing was measured."""

    name: str
    passed: bool
    value: float | None = None
    threshold: float | None = None
    said: str = ""

    @property
    def told(self) -> str:
        """What was measured, and what is to be said of it."""
        value = "" if self.value is None else f"{self.value:.4g}"
        return ", ".join(part for part in (value, self.said) if part)


class GateResult(FrozenModel):
    """All checks of a gate."""

    passed: bool
    checks: tuple[Check, ...] = ()

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that were not met."""
        return tuple(check for check in self.checks if not check.passed)


class Gate(FrozenModel):
    """Thresholds on a scorecard.

    `min` and `max` are absolute. `not_worse` is against the version that now holds the alias: by
    how much a metric may be worse. `min_probes` guards against scores of a handful of probes.
    `approved` asks for reviewers: of every edit that the version changes against that other one.
    """

    min: dict[MetricName, Threshold] = {}
    max: dict[MetricName, Threshold] = {}
    not_worse: dict[MetricName, Tolerance] = {}
    min_probes: dict[MetricName, Count] = {}
    approved: Literal[True] | Approvals | None = None

    @model_validator(mode="after")
    def _known_metrics(self) -> "Gate":
        named = {*self.min, *self.max, *self.not_worse, *self.min_probes}
        unknown = sorted(named - METRICS)
        if unknown:
            raise ValueError(f"there is no metric {unknown[0]!r}; there are {sorted(METRICS)}")
        return self

    @property
    def approvals(self) -> Approvals | None:
        """What is asked of reviewers, None where nothing is."""
        return Approvals() if self.approved is True else self.approved

    def asking(self, *, quorum: int | None, not_author: bool) -> "Gate":
        """Return the gate that asks for at least these approvals as well."""
        known = self.approvals or Approvals()
        approvals = Approvals(
            quorum=max(quorum or 1, known.quorum), not_author=not_author or known.not_author
        )
        return self.model_copy(update={"approved": approvals})

    def said(self) -> list[str]:
        """Say each threshold in words, as the names of checks do."""
        checks = self.check(Scorecard(), None).checks
        return [check.name for check in checks] or ["a promotion in the ledger"]

    def check(
        self,
        scorecard: Scorecard,
        current: Scorecard | None,
        *,
        opinions: Sequence[Opinion] | None = None,
    ) -> GateResult:
        """Hold a scorecard against the gate.

        Args:
            scorecard: of the version to be promoted.
            current: of the version that holds the alias; None where none does.
            opinions: what was said of each change between the two (see `approvals`); None where
                nobody was asked, which is no approval.
        """
        checks = (*self._absolute(scorecard), *self._relative(scorecard, current))
        checks += tuple(self._counts(scorecard))
        if self.approvals is not None:
            checks += (_approved(self.approvals, opinions),)
        return GateResult(passed=all(check.passed for check in checks), checks=checks)

    def _absolute(self, card: Scorecard) -> Iterator[Check]:
        for sign, thresholds in ((1, self.min), (-1, self.max)):
            for metric, threshold in thresholds.items():
                value = getattr(card, metric)
                yield Check(
                    name=f"{metric} {'>=' if sign > 0 else '<='} {threshold:g}",
                    passed=value is not None and sign * value >= sign * threshold,
                    value=value,
                    threshold=threshold,
                    said="not measured" if value is None else "",
                )

    def _relative(self, card: Scorecard, current: Scorecard | None) -> Iterator[Check]:
        for metric, tolerance in self.not_worse.items():
            value = getattr(card, metric)
            before = getattr(current, metric) if current else None
            name = f"{metric} not worse than now by more than {tolerance:g}"
            if current is None or before is None:
                yield Check(name=name, passed=True, value=value, said="nothing to compare with")
                continue
            other = other_protocol(card, current, metric)
            if other:
                said = f"measured by another protocol ({', '.join(other)})"
                yield Check(name=name, passed=False, value=value, said=said)
                continue
            lower = metric in LOWER_IS_BETTER
            bound = before + tolerance if lower else before - tolerance
            passed = value is not None and (value <= bound if lower else value >= bound)
            said = "not measured" if value is None else ""
            yield Check(name=name, passed=passed, value=value, threshold=bound, said=said)

    def _counts(self, card: Scorecard) -> Iterator[Check]:
        for metric, least in self.min_probes.items():
            count = card.n_probes.get(metric, 0)
            yield Check(
                name=f"{metric} by at least {least} probes",
                passed=count >= least,
                value=count,
                threshold=least,
            )


def default_gate(scorecard: Scorecard) -> Gate:
    """Return the gate to judge by where nobody has set one: of what was measured, and retention.

    A version whose edits were not asked does not pass.
    """
    measured = {"retention", *scorecard.metrics()}
    return Gate(
        min={name: value for name, value in DEFAULT_MIN.items() if name in measured},
        max={name: value for name, value in DEFAULT_MAX.items() if name in measured},
    )


def _approved(demanded: Approvals, opinions: Sequence[Opinion] | None) -> Check:
    if opinions is None:
        return Check(name="approved", passed=False, said="nobody was asked")
    told = [(opinion.label, demanded.lacks(opinion)) for opinion in opinions]
    lacking = [(label, said) for label, said in told if said]
    said = f"{len(told) - len(lacking):,} of {len(told):,} changes"
    said += f"; {summary_of(lacking)}" if lacking else ""
    return Check(name="approved", passed=not lacking, said=said)


def check_all(
    gates: Sequence[Gate],
    scorecard: Scorecard,
    current: Scorecard | None,
    *,
    opinions: Sequence[Opinion] | None = None,
) -> GateResult:
    """Hold a scorecard against several gates (see `Gate.check`); what they share is said once."""
    results = [gate.check(scorecard, current, opinions=opinions) for gate in gates]
    checks = tuple(dict.fromkeys(check for result in results for check in result.checks))
    return GateResult(passed=all(check.passed for check in checks), checks=checks)


def other_protocol(one: Scorecard, other: Scorecard, metric: str | None = None) -> list[str]:
    """Name the parts of the protocol in which two scorecards, or one metric, cannot be compared.

    The suite says nothing of metrics that ask only what edits bring.
    """
    names = {*one.protocol, *other.protocol} - {"device"}
    if metric in OF_EDITS:
        names -= {"suite", "suite_digest"}
    return sorted(name for name in names if one.protocol.get(name) != other.protocol.get(name))


def parse_gate(text: str) -> Gate:
    """Read a gate from YAML.

    Raises:
        InvalidInputError: it is malformed, or names what is no metric.
    """
    if len(text) > MAX_GATE:
        raise InvalidInputError(f"the gate is longer than {MAX_GATE:,} characters")
    try:
        root = compose(text)
        fields = plain(root) if root is not None else {}
        return Gate.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "gate"
        raise InvalidInputError(
            f"the gate is malformed: {place}: {first['msg'].removeprefix('Value error, ')}",
            hint="Its fields are min, max, not_worse, min_probes and approved: docs/promotion.md.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"the gate is not YAML: {error}") from error
