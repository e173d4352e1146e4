"""Who makes a version and why, checked before any work is done for it."""

from mlflow_edit.core.ledger import MAX_NOTE
from mlflow_edit.core.text import nfc
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.provenance import default_author

MAX_AUTHOR, MAX_MESSAGE = 500, 20_000


def checked_author(author: str | None) -> str:
    """Return who is named, or else who git or the account says.

    Raises:
        InvalidInputError: the name is too long, or is no text.
    """
    return _checked(author or default_author(), "author", MAX_AUTHOR)


def checked_message(message: str) -> str:
    """Return the message of a version.

    Raises:
        InvalidInputError: it is too long, or is no text.
    """
    return _checked(message, "message", MAX_MESSAGE)


def checked_note(note: str) -> str:
    """Return the note to a decision.

    Raises:
        InvalidInputError: it is too long, or is no text.
    """
    return _checked(note, "note", MAX_NOTE)


def _checked(text: str, what: str, limit: int) -> str:
    text = str(nfc(text))
    if len(text) > limit:
        raise InvalidInputError(
            f"the {what} has {len(text):,} characters; at most {limit:,} are kept"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the {what} {text!r} is not valid Unicode") from error
    if "\x00" in text:
        raise InvalidInputError(f"the {what} {text!r} holds a NUL character")
    return text
