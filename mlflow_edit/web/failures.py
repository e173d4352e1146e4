"""Every error becomes a page with the right status; no traceback leaves the server."""

import logging

from flask import Response
from werkzeug.exceptions import HTTPException

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.errors import (
    BaseMismatchError,
    ConflictError,
    EditingError,
    GateError,
    IntegrityError,
    InvalidInputError,
    LostRaceError,
    MlflowEditError,
    NotFoundError,
    RegistryError,
)
from mlflow_edit.web.rendering import page

STATUS: dict[type[MlflowEditError], int] = {
    InvalidInputError: 400,
    NotFoundError: 404,
    ConflictError: 409,
    LostRaceError: 409,
    BaseMismatchError: 409,
    GateError: 422,
    EditingError: 422,
    IntegrityError: 500,
    RegistryError: 502,
    MlflowEditError: 500,
}
TITLES = {
    400: "This cannot be read",
    403: "Refused",
    404: "Not found",
    405: "Not allowed here",
    409: "Something has changed",
    413: "Too large",
    422: "Refused",
    429: "Too many at once",
    500: "Something is wrong",
    502: "MLflow's store failed",
    503: "Not now",
    504: "This took too long",
}
logger = logging.getLogger("mlflow.mledit")


class Failure(FrozenModel):
    """What went wrong, and what to do next."""

    status: int
    said: str
    hint: str | None = None
    details: tuple[str, ...] = ()
    retry_after: int | None = None


def failure_page(error: Exception) -> Response:
    """Say what went wrong and what to do next."""
    return shown(failure_of(error))


def shown(failure: Failure, about: tuple[str, int] | None = None) -> Response:
    """Make the page of a failure, of something that was about a model and a version of it."""
    title = TITLES.get(failure.status, "Something is wrong")
    answer = page("failure.html", status=failure.status, title=title, failure=failure, about=about)
    if failure.retry_after is not None:
        answer.headers["Retry-After"] = str(failure.retry_after)
    return answer


def failure_of(error: Exception) -> Failure:
    """Put an error into words; what is wrong on the server's side is logged."""
    if isinstance(error, HTTPException):
        again = getattr(error, "retry_after", None)
        return Failure(
            status=error.code or 500,
            said=error.description or error.name,
            retry_after=again if isinstance(again, int) else None,
        )
    if isinstance(error, MlflowEditError):
        status = status_of(error)
        if status >= 500:
            logger.error("%s: %s", type(error).__name__, error.message)
        lines = [_line(item) for items in error.details().values() for item in items]
        return Failure(status=status, said=error.message, hint=error.hint, details=tuple(lines))
    logger.error("unexpected %s", type(error).__name__, exc_info=error)
    if isinstance(error, ImportError | MemoryError):
        said = error.name if isinstance(error, ImportError) and error.name else "memory"
        return Failure(
            status=503,
            said=f"A model cannot be loaded on this server: it lacks {said}.",
            hint="MLEDIT_UI_MODELS=0 turns off what needs one; mledit does it elsewhere.",
        )
    return Failure(
        status=500,
        said=f"An unexpected {type(error).__name__} happened.",
        hint="This is a defect; the server's log shows where it comes from. Please report it.",
    )


def _line(item: object) -> str:
    """Write a failing check, or a conflict, in one line."""
    if not isinstance(item, dict):
        return str(item)
    if "message" in item:
        return f"{item.get('kind')}: {item['message']}"
    value = item.get("value")
    told = ["" if value is None else f"{value:.4g}", str(item.get("said") or "")]
    return f"{item.get('name')}: {', '.join(part for part in told if part) or 'not met'}"


def status_of(error: MlflowEditError) -> int:
    """Return the HTTP status of an error of ours."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
