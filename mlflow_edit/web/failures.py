"""Every error becomes a page with the right status; no traceback leaves the server."""

import logging

from flask import Response
from werkzeug.exceptions import HTTPException

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
    500: "Something is wrong",
    502: "MLflow's store failed",
}
logger = logging.getLogger("mlflow.mledit")


def failure_page(error: Exception) -> Response:
    """Say what went wrong and what to do next."""
    if isinstance(error, HTTPException):
        status = error.code or 500
        said, hint, details = error.description or error.name, None, []
    elif isinstance(error, MlflowEditError):
        status, said, hint = status_of(error), error.message, error.hint
        details = [str(item) for items in error.details().values() for item in items]
        if status >= 500:
            logger.error("%s: %s", type(error).__name__, error.message)
    else:
        logger.error("unexpected %s", type(error).__name__, exc_info=error)
        status, said, details = 500, f"An unexpected {type(error).__name__} happened.", []
        hint = "This is a defect; the server's log shows where it comes from. Please report it."
    title = TITLES.get(status, "Something is wrong")
    return page("failure.html", status=status, title=title, said=said, hint=hint, details=details)


def status_of(error: MlflowEditError) -> int:
    """Return the HTTP status of an error of ours."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
