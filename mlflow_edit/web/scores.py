"""Metrics of one version beside those of others, written out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlflow_edit.core.gate import LOWER_IS_BETTER
from mlflow_edit.review.summary import MEANINGS, SETTLED


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric of another version, how it changed since, and whether it got better."""

    value: float | None
    change: str
    verdict: Literal["", "good", "bad"]


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One metric: its value, and those of the versions it is compared with, in their order."""

    name: str
    meaning: str
    value: float | None
    others: tuple[Compared, ...]


def score_rows(new: Mapping[str, float], *others: Mapping[str, float]) -> list[ScoreRow]:
    """Put the metrics that were measured of any of the versions side by side, headline first."""
    measured = {name for one in (new, *others) for name in one}
    return [
        ScoreRow(
            name.replace("_", " "),
            meaning,
            new.get(name),
            tuple(_compared(name, new.get(name), one.get(name)) for one in others),
        )
        for name, meaning in MEANINGS.items()
        if name in measured
    ]


def _compared(name: str, value: float | None, old: float | None) -> Compared:
    if value is None or old is None:
        return Compared(old, "", "")
    change = value - old
    if abs(change) < SETTLED:
        return Compared(old, "same", "")
    better = (change < 0) == (name in LOWER_IS_BETTER)
    said = f"{change:+.3f}".replace("-", "−")
    return Compared(old, said, "good" if better else "bad")
