"""Give up a job that was asked for."""

from flask import Response

from mlflow_edit.web.asked import Asked
from mlflow_edit.web.rendering import see_other


def cancel(asked: Asked) -> Response:
    """Drop a job of the user's own, or stop it; its page says what became of it."""
    id = asked.parameter("id")
    asked.jobs.cancel(id, name=asked.name, user=asked.user)
    return see_other("/job", name=asked.name, id=id)
