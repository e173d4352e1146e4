"""Keep the largest elements of each update, and add."""

from mlflow_edit.patches.changes import Change
from mlflow_edit.patches.merging.strategy import Settings, Update, as_changes, kept


def magnitude(tensor: str, ours: Update, theirs: Update, settings: Settings) -> tuple[Change, ...]:
    r"""Return $\lambda (\mathrm{top}_k \Delta_1 + \mathrm{top}_k \Delta_2)$, by absolute value.

    Magnitude pruning of each side; $k$ is the density's share of the weight's elements.
    """
    both = kept(ours.total, settings.density) + kept(theirs.total, settings.density)
    return as_changes(tensor, ours.base, settings.weight * both)
