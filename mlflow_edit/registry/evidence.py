"""What a server can find out about a version without trusting the client that asks."""

from dataclasses import dataclass
from typing import Any

from mlflow_edit.core.ledger import Entry
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import IntegrityError
from mlflow_edit.registry import mlflow_insides
from mlflow_edit.registry.mlflow_ledger import entries_of
from mlflow_edit.registry.names import MANIFEST, SCORECARD


@dataclass(frozen=True, slots=True)
class Facts:
    """A registered version: its digest is a write-once parameter, its tags are not.

    `shown` is what its tags must say of it.
    """

    model_id: str
    digest: str
    author: str
    tags: dict[str, str]
    shown: dict[str, str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Reads a model's ledger and scorecards inside the server, and verifies their digests.

    Args:
        store: the registry store.
        name: the model.
    """

    store: Any
    name: str

    def version(self, number: int) -> Facts:
        """Look a version up.

        Raises:
            IntegrityError: it is not a version of an edited model.
        """
        found = self.store.get_model_version(self.name, str(number))
        model_id = str(found.source).removeprefix("models:/")
        params: dict[str, str] = {}
        if model_id.startswith("m-"):
            params = mlflow_insides.tracking().get_logged_model(model_id).params
        if "mledit.digest" not in params:
            raise IntegrityError(
                f"{self.name}@{number} is not a version of an edited model: it has no scorecard",
                hint="Register it with mledit apply.",
            )
        digest = params["mledit.digest"]
        shown = {"mledit.digest": digest[:12], "mledit.edits": params.get("mledit.n_edits", "0")}
        return Facts(model_id, digest, params.get("mledit.author", ""), dict(found.tags), shown)

    def entries(self) -> dict[int, Entry]:
        """Read the ledger."""
        run_id = self.store.get_model_version(self.name, "1").run_id
        return entries_of(mlflow_insides.tracking().get_run(run_id).data.params)

    def scorecard(self, facts: Facts) -> Scorecard:
        """Read a version's scorecard, verified down from its write-once digest.

        Raises:
            IntegrityError: it is not the one that was registered.
        """
        manifest = Manifest.from_bytes(
            mlflow_insides.read_file(facts.model_id, MANIFEST), digest=facts.digest
        )
        data = mlflow_insides.read_file(facts.model_id, SCORECARD)
        return Scorecard.from_bytes(data, digest=manifest.scorecard)
