"""The strategies, by name."""

from collections.abc import Mapping
from typing import Literal, get_args

from mlflow_edit.errors import InvalidParams
from mlflow_edit.patches.merging.dare import dare
from mlflow_edit.patches.merging.linear import linear
from mlflow_edit.patches.merging.magnitude import magnitude
from mlflow_edit.patches.merging.nullspace import nullspace
from mlflow_edit.patches.merging.strategy import Settings, Strategy
from mlflow_edit.patches.merging.ties import ties

StrategyName = Literal["sum", "linear", "ties", "dare", "magnitude", "nullspace"]
NAMES: tuple[StrategyName, ...] = get_args(StrategyName)
STRATEGIES: Mapping[StrategyName, Strategy] = {
    "linear": linear,
    "ties": ties,
    "dare": dare,
    "magnitude": magnitude,
    "nullspace": nullspace,
}
"""All but `sum`, which makes no new batch: both sides' batches are in force."""

USES: Mapping[StrategyName, tuple[str, ...]] = {
    "sum": (),
    "linear": ("weight",),
    "ties": ("density", "weight"),
    "dare": ("density", "weight", "seed"),
    "magnitude": ("density", "weight"),
    "nullspace": (),
}
"""Which settings count for each strategy."""

MEAN = 0.5


def settings_for(
    strategy: StrategyName, *, density: float | None, weight: float | None, seed: int | None
) -> Settings:
    """Return the settings of a strategy; of `linear` the weight is that of the mean, unless given.

    Raises:
        InvalidParams: one is out of range, or given where it does not count.
    """
    given = {"density": density, "weight": weight, "seed": seed}
    for name, value in given.items():
        if value is not None and name not in USES[strategy]:
            known = ", ".join(USES[strategy]) or "none"
            raise InvalidParams(
                f"the strategy {strategy} has no {name}", hint=f"Its settings: {known}."
            )
    default = Settings(weight=MEAN) if strategy == "linear" else Settings()
    return Settings(
        density=default.density if density is None else density,
        weight=default.weight if weight is None else weight,
        seed=default.seed if seed is None else seed,
    )


def strategy_named(text: str) -> StrategyName:
    """Check the name of a strategy.

    Raises:
        InvalidParams: there is none of that name.
    """
    for name in NAMES:
        if name == text:
            return name
    raise InvalidParams(f"no merging strategy {text!r}", hint=f"One of {', '.join(NAMES)}.")
