"""Tag runs with the commit of the edits file that they are about.

MLflow itself tags the commit of the script that runs, which is another repository, or none, where
the script is an installed command. `import mlflow` imports this module: nothing heavy at the top.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.tracking.context.abstract_context import RunContextProvider

if TYPE_CHECKING:
    from mlflow_edit.core.results import Provenance

VARIABLE = "MLEDIT_EDITS"
_last: "Provenance | None" = None


def remember(provenance: "Provenance | None") -> None:
    """Note where the edits came from that this process read last."""
    global _last
    _last = provenance


class EditsRunContext(RunContextProvider):  # type: ignore[misc]
    """Tags a run with the edits file that `MLEDIT_EDITS` names, or that was read last."""

    def in_context(self) -> bool:
        """Tell whether an edits file is known."""
        return bool(os.environ.get(VARIABLE)) or _last is not None

    def tags(self) -> dict[str, str]:
        """Return path, commit, author and summary of the file's last commit."""
        found = _last
        if os.environ.get(VARIABLE):
            from mlflow_edit.provenance import provenance_of

            found = provenance_of(Path(os.environ[VARIABLE]))
        if found is None:
            return {}
        said = {
            "path": found.path,
            "commit": found.commit,
            "author": found.author,
            "summary": found.summary,
            "dirty": None if found.dirty is None else str(found.dirty).lower(),
        }
        return {f"mledit.edits.{name}": text[:500] for name, text in said.items() if text}
