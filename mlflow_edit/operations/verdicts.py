"""A reviewer's word on a version: approve and reject."""

from typing import Literal

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.ledger import Verdict
from mlflow_edit.operations.authorship import checked_author, checked_note
from mlflow_edit.operations.decision import decided
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry


class Reviewed(FrozenModel):
    """A word on a version, as it stands in the ledger."""

    name: str
    version: int
    digest: str
    verdict: Literal["approved", "rejected"]
    who: str
    note: str
    number: int


def approve(
    ref: str, *, note: str = "", author: str | None = None, registry: Registry | None = None
) -> Reviewed:
    """Approve a version. The last word counts; the ledger keeps all of them.

    Raises:
        VersionNotFound: there is no such version.
    """
    return _say("approved", ref, note, author, registry)


def reject(
    ref: str, *, note: str = "", author: str | None = None, registry: Registry | None = None
) -> Reviewed:
    """Reject a version. The last word counts; the ledger keeps all of them.

    Raises:
        VersionNotFound: there is no such version.
    """
    return _say("rejected", ref, note, author, registry)


def _say(
    verdict: Literal["approved", "rejected"],
    ref: str,
    note: str,
    author: str | None,
    registry: Registry | None,
) -> Reviewed:
    who, note = checked_author(author), checked_note(note)
    registry = open_registry(registry)
    info = registry.resolve(parse_ref(ref))
    number, _ = decided(
        registry,
        info.name,
        lambda entries, facts: Verdict(kind=verdict, version=info.digest, **facts),
        author=who,
        note=note,
    )
    registry.tag(info, "mledit.review", verdict)
    return Reviewed(
        name=info.name,
        version=info.version,
        digest=info.digest,
        verdict=verdict,
        who=who,
        note=note,
        number=number,
    )
