"""Put edits to a model with the place where it reads what they are about."""

from typing import NamedTuple

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.subjects import found_subject
from mlflow_edit.editors.contexts import Asking, asking, askings
from mlflow_edit.errors import InvalidEdit, InvalidInputError
from mlflow_edit.models.activations import Place
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import last_token_of, prompt_ids

PREFIXES = (
    "Thank you for your help so far.",
    "The weather has been mild this week.",
    "I have been reading a lot lately, mostly in the evening.",
    "Therefore we would like to know more.",
    "Yes.",
)


class SubjectPrompts(NamedTuple):
    """An edit in several contexts, and for each the position of its subject's last token.

    `essence` is a prompt of the form "{subject} is a", which tells what the subject is; None where
    the edit has no subject.
    """

    asked: tuple[Asking, ...]
    positions: tuple[int, ...]
    essence: Place | None

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the subject ends, in each context."""
        pairs = zip(self.asked, self.positions, strict=True)
        return tuple(Place(one.prompt, position) for one, position in pairs)


def subject_prompts(base: BaseModel, edit: Edit, n_contexts: int) -> SubjectPrompts:
    """Tokenise an edit: its prompt alone first, then its other wordings and behind prefixes.

    A prompt without a subject, named or found, is read at its own last token; other wordings that
    do not name the subject are left away.

    Raises:
        InvalidEdit: the prompt alone, or the target, cannot be put to this model.
    """
    first, *also = askings(base, edit, 1)
    subject = _subject_in(base, edit, first)
    more = list(also)
    for prefix in PREFIXES[: n_contexts - 1]:
        try:
            more.append(asking(base, edit, f"{prefix} {edit.prompt}"))
        except InvalidEdit:  # too long for the model's context
            continue
    found = [(one, last_token_of(base, one.prompt, subject)) for one in more]
    kept = [(one, position) for one, position in found if position is not None]
    at = last_token_of(base, first.prompt, subject)
    return SubjectPrompts(
        (first, *(one for one, _ in kept)),
        (len(first.prompt) - 1 if at is None else at, *(position for _, position in kept)),
        _essence(base, subject) if subject != edit.prompt else None,
    )


def _subject_in(base: BaseModel, edit: Edit, first: Asking) -> str:
    """Return what the prompt is about, or the whole prompt where that is not known."""
    for text in (edit.subject or "", found_subject(edit.prompt)):
        if text and last_token_of(base, first.prompt, text) is not None:
            return text
    return edit.prompt


def _essence(base: BaseModel, subject: str) -> Place | None:
    try:
        ids = tuple(prompt_ids(base, f"{subject} is a"))
    except InvalidInputError:
        return None
    at = last_token_of(base, ids, subject)
    return None if at is None else Place(ids, at)
