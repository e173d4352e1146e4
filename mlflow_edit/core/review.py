"""All that a reviewer is shown of one version: the input of the review page."""

from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.results import EntryView, ProbeResult, Provenance, Unsolved
from mlflow_edit.core.scorecard import Scorecard


class Review(FrozenModel):
    """One version, ready to be shown."""

    name: str
    verb: str = "apply"
    manifest: Manifest
    scorecard: Scorecard
    parent_scorecard: Scorecard | None = None
    edits: tuple[Edit, ...] = ()
    taken: tuple[Edit, ...] = ()
    returned: tuple[Edit, ...] = ()
    results: tuple[ProbeResult, ...] = ()
    unsolved: tuple[Unsolved, ...] = ()
    entries: tuple[EntryView, ...] = ()
    provenance: Provenance | None = None
    editor: str = ""
    params: dict[str, str | int | float | bool | None] = {}
    seconds: float | None = None
