"""Whether reviewers approved what a version changes: the rule, wherever they answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.text import printable

MAX_QUORUM = 10  # as many reviewers as MLflow assigns to a queue
MAX_SAID = 600  # characters: a refusal must fit into the ledger

ChangeKind = Literal["new", "taken-out", "version"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a reviewer says yes or no to.

    An edit that the version answers by and what it is compared with does not (`new`), or the other
    way round (`taken-out`); or, where no edit changes, the `version`. `digest` is of the edit, or
    of the version's content.
    """

    kind: ChangeKind
    digest: str
    edit: Edit | None = None

    @property
    def label(self) -> str:
        """What the change is called where there is little room."""
        if self.edit is None:
            return "the version"
        return self.edit.id if self.kind == "new" else f"{self.edit.id} (taken out)"

    def question(self, version: str, base: str) -> str:
        """Return the id of the question that a version asks about this change: 32 hex digits.

        It follows from what is asked, so that asking again asks nothing twice, and a question that
        is missing is noticed.
        """
        return json_digest([version, base, self.kind, self.digest])[:32]


@dataclass(frozen=True, slots=True)
class Question:
    """A change as it is shown to reviewers: two messages of a chat, in Markdown."""

    id: str
    label: str
    request: str
    response: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a question: whether its review is complete, each reviewer's latest answer."""

    complete: bool
    answers: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Opinion:
    """All that was said about a change; `author` made the version that asks about it."""

    label: str
    author: str
    passes: tuple[str, ...]
    fails: tuple[str, ...]
    waiting: str = "no answer"


class Approvals(FrozenModel):
    """How many reviewers must approve each change, and whether its author is one of them."""

    quorum: Annotated[int, Field(ge=1, le=MAX_QUORUM)] = 1
    not_author: bool = False

    def lacks(self, opinion: Opinion) -> str:
        """Say what is missing for a change to be approved; nothing where it is.

        Nobody's latest answer may be a no, and enough persons' latest answers must be a yes.
        """
        if opinion.fails:
            return f"rejected by {', '.join(opinion.fails)}"
        approvers = persons(opinion.passes)
        if self.not_author:
            author = names_of(opinion.author)
            approvers = [one for one in approvers if not one & author]
        if len(approvers) >= self.quorum:
            return ""
        if not opinion.passes:
            return opinion.waiting
        own = " other than its author" if self.not_author else ""
        return f"approved by {len(approvers)} of {self.quorum} reviewers{own}"


def opinion_on(
    change: Change,
    author: str,
    asked: Answered | None,
    verdicts: dict[str, bool],
) -> Opinion:
    """Put together what reviewers said of a change, in a queue and about the whole version.

    A pass in a queue counts when its item is complete; a fail always does. Of one who said both
    here and there neither may be a no.

    Args:
        change: what was asked.
        author: who made the version that asks.
        asked: the question in a queue, None where it is in none.
        verdicts: each reviewer's last word on the version that is to be promoted.
    """
    answers = asked.answers if asked else {}
    complete = asked is not None and asked.complete
    passes = {who for who, passed in answers.items() if passed and complete}
    passes |= {who for who, passed in verdicts.items() if passed}
    fails = {who for found in (answers, verdicts) for who, passed in found.items() if not passed}
    waiting = "not in a review queue"
    if asked is not None:
        waiting = "no answer" if complete or not answers else "not marked complete"
    return Opinion(change.label, author, tuple(sorted(passes)), tuple(sorted(fails)), waiting)


def persons(reviewers: Iterable[str]) -> list[frozenset[str]]:
    """Tell reviewers apart: those who share a name are one person, who has none is nobody."""
    found: list[frozenset[str]] = []
    for names in filter(None, map(names_of, reviewers)):
        same = [one for one in found if one & names]
        found = [one for one in found if one not in same] + [names.union(*same)]
    return found


def names_of(who: str) -> frozenset[str]:
    """Return what `Ada Byron <ada@example.org>` may be called: the name, the address, the account.

    An MLflow server knows accounts, git knows addresses. Who might be the same person is taken for
    the same.
    """
    name, _, address = who.casefold().partition("<")
    names = {name.strip(), address.strip(" >")}
    accounts = {one.partition("@")[0] for one in names if "@" in one}
    return frozenset(names | accounts) - {""}


def summary_of(lacking: Sequence[tuple[str, str]], shown: int = 3) -> str:
    """Say of a few changes what they lack."""
    told = "; ".join(f"{label}: {said}" for label, said in lacking[:shown])
    told = printable(told)[:MAX_SAID]
    more = len(lacking) - shown
    return f"{told}; and {more:,} more" if more > 0 else told
