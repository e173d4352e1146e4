"""The forms in which what is added to one weight can be kept; one file for each."""

from collections.abc import Mapping

from mlflow_edit.patches.change import Change, accumulator
from mlflow_edit.patches.dense import Dense
from mlflow_edit.patches.low_rank import LowRank
from mlflow_edit.patches.sparse import Sparse

__all__ = ["CHANGES", "Change", "Dense", "LowRank", "Sparse", "accumulator"]

CHANGES: Mapping[str, type[Change]] = {kind.form: kind for kind in (LowRank, Sparse, Dense)}
