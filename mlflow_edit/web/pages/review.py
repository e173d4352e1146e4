"""The review page that was stored with a version."""

from flask import Response

from mlflow_edit.errors import NotFoundError
from mlflow_edit.registry.names import REVIEW
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.headers import STORED_DOCUMENT


def review(asked: Asked) -> Response:
    """Give the stored page, which may run its own script, as nobody and towards nobody."""
    info = asked.version()
    stored = asked.registry.document(info, REVIEW)
    if stored is None:
        raise NotFoundError(
            f"no {REVIEW} was stored with {asked.ref(info)}",
            hint="It lies among the artifacts of the run; somebody may have deleted it.",
        )
    answer = Response(stored, mimetype="text/html")
    answer.headers["Content-Security-Policy"] = STORED_DOCUMENT
    return answer
