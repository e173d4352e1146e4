"""Approve and reject a version."""

from flask import Response

from mlflow_edit.operations import verdicts
from mlflow_edit.operations.verdicts import Reviewed
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.rendering import see_other


def approve(asked: Asked) -> Response:
    """Write down that the user approves the version that they were shown."""
    info = asked.unchanged_version()
    return _shown(verdicts.approve(asked.ref(info), **_said(asked), registry=asked.registry))


def reject(asked: Asked) -> Response:
    """Write down that the user rejects the version that they were shown."""
    info = asked.unchanged_version()
    return _shown(verdicts.reject(asked.ref(info), **_said(asked), registry=asked.registry))


def _said(asked: Asked) -> dict[str, str]:
    return {"note": asked.field("note", ""), "author": asked.user}


def _shown(made: Reviewed) -> Response:
    return see_other("/version", name=made.name, version=made.version, entry=made.number)
