"""`mlflow.data.from_edits`: edits as an MLflow dataset, named by the digest that versions name.

`import mlflow` imports this module: nothing heavy at the top.
"""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.evaluation_dataset import EvaluationDataset
from mlflow.data.pyfunc_dataset_mixin import PyFuncConvertibleDatasetMixin, PyFuncInputsOutputs

if TYPE_CHECKING:
    from mlflow_edit.core.edit_batch import EditBatch

EDIT = "edit"  # the column that holds a whole edit, as JSON
DIGEST = 32  # characters: MLflow keeps 36


class EditsDataset(Dataset, PyFuncConvertibleDatasetMixin):  # type: ignore[misc]
    """Edits with their probes. Its digest is that of the edits, in whatever order they stand.

    Args:
        edits: the edits.
        source: where they came from.
        name: what MLflow calls it.
        digest: another digest to go by.
    """

    def __init__(
        self,
        edits: "EditBatch",
        source: DatasetSource,
        name: str | None = None,
        digest: str | None = None,
    ) -> None:
        self.edits = edits
        super().__init__(source=source, name=name or "edits", digest=digest)

    def _compute_digest(self) -> str:
        return self.edits.digest[:DIGEST]

    @property
    def df(self) -> Any:
        """The edits as a pandas table: prompt, target, and the whole edit as JSON."""
        import pandas as pd

        from mlflow_edit.core.digest import canonical_json

        rows = [
            {
                "prompt": edit.prompt,
                "target": edit.target,
                EDIT: canonical_json(edit.written()).decode(),
            }
            for edit in self.edits
        ]
        return pd.DataFrame(rows)

    @property
    def profile(self) -> dict[str, int]:
        """How many edits there are, and how many probes."""
        return {
            "n_edits": len(self.edits),
            "n_rephrases": sum(len(edit.rephrases) for edit in self.edits),
            "n_locality": sum(len(edit.locality) for edit in self.edits),
            "n_portability": sum(len(edit.portability) for edit in self.edits),
        }

    @property
    def schema(self) -> None:
        """Edits have a format of their own (see docs/format.md)."""

    def to_dict(self) -> dict[str, str]:
        """Describe the dataset as MLflow stores it."""
        return {**super().to_dict(), "profile": json.dumps(self.profile)}

    def to_pyfunc(self) -> PyFuncInputsOutputs:
        """Return prompts and targets."""
        table = self.df
        return PyFuncInputsOutputs(table[["prompt"]], table["target"])

    def to_evaluation_dataset(
        self, path: str | None = None, feature_names: Any = None
    ) -> EvaluationDataset:
        """Return the table that `mlflow.models.evaluate` hands to an evaluator."""
        return EvaluationDataset(
            self.df, path=path, feature_names=feature_names, name=self.name, digest=self.digest
        )


def from_edits(
    path: str | Path, name: str | None = None, digest: str | None = None
) -> EditsDataset:
    """Read an edits file as a dataset.

    Args:
        path: `.jsonl`, `.json`, `.csv` or `.yaml`, as `mledit apply` reads it.
        name: what MLflow calls the dataset; None takes the file's name.
        digest: another digest than that of the edits.

    Raises:
        InvalidEdit: the file cannot be read, or an edit in it is malformed.
    """
    from mlflow_edit.mlflow_plugins.run_context import remember
    from mlflow_edit.operations.edit_source import read_source

    source = read_source([Path(path)])
    batch = source.parse().batch
    remember(source.provenance)
    return EditsDataset(batch, _file(Path(path)), name or Path(path).name, digest)


def of_edits(edits: "EditBatch", name: str | None = None) -> EditsDataset:
    """Make a dataset of edits that came as rows of another one."""
    return EditsDataset(edits, CodeDatasetSource({}), name)


def _file(path: Path) -> DatasetSource:
    """Return MLflow's source for a local file; it has two alike, and warns at every use."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The specified dataset source can be interpreted")
        return resolve_dataset_source(str(path))
