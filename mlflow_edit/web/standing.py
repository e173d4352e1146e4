"""What was decided about versions, for the pages that show it."""

from dataclasses import dataclass

from mlflow_edit.errors import MlflowEditError
from mlflow_edit.operations.log import Decision, decisions_about
from mlflow_edit.web.asked import Asked

VERDICTS = {"approved": "good", "rejected": "bad"}


@dataclass(frozen=True, slots=True)
class Record:
    """The decisions about the versions of a model, oldest first, or why they cannot be read."""

    decisions: tuple[Decision, ...]
    problem: str = ""

    def about(self, version: int) -> list[Decision]:
        """Return the decisions about one version."""
        return [one for one in self.decisions if one.version == version]

    def verdicts(self) -> dict[int, dict[str, Decision]]:
        """Return each reviewer's last word, by version and reviewer."""
        found: dict[int, dict[str, Decision]] = {}
        for one in self.decisions:
            if one.kind in VERDICTS and one.version is not None:
                found.setdefault(one.version, {})[one.who] = one
        return found

    def moves(self) -> dict[int, list[Decision]]:
        """Return the moves of aliases to each version, and the refused ones."""
        found: dict[int, list[Decision]] = {}
        for one in self.decisions:
            if one.alias is not None and one.version is not None:
                found.setdefault(one.version, []).append(one)
        return found


def record_of(asked: Asked) -> Record:
    """Read what was decided about a model; a damaged ledger does not hide its versions."""
    try:
        return Record(decisions_about(asked.versions, asked.registry.ledger(asked.name)))
    except MlflowEditError as error:
        return Record((), error.message)
