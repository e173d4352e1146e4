"""A job: how far it is, then what came of it."""

import time

from flask import Response

from mlflow_edit.registry.names import VersionRef
from mlflow_edit.web.actions.merge import STRATEGIES
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.failures import shown
from mlflow_edit.web.job_folder import Job
from mlflow_edit.web.rendering import page

FIRST_LOOK = 1.0  # seconds: what is quick is shown at once


def job(asked: Asked) -> Response:
    """Show a job of the user's own; the page looks again by itself until it is over."""
    found = asked.jobs.find(
        asked.parameter("id"), name=asked.name, user=asked.user, wait=FIRST_LOOK
    )
    if found.failure is not None:
        return shown(found.failure, (found.name, found.about["version"]))
    if found.result is None:
        return page("job.html", job=found, seconds=int(time.time() - found.submitted))
    return _result(asked, found)


def _result(asked: Asked, found: Job) -> Response:
    from mlflow_edit.operations.blame import Blamed
    from mlflow_edit.operations.pairing import Merged
    from mlflow_edit.operations.revert import Reverted

    about, n_models = found.about, asked.jobs.n_models
    info = asked.registry.resolve(VersionRef(asked.name, str(about["version"])))
    if found.kind == "ask":
        answered = Blamed.model_validate(found.result)
        return page(
            "ask.html", info=info, prompt=about["prompt"], answered=answered, n_models=n_models
        )
    if found.kind == "revert":
        made = Reverted.model_validate(found.result)
        return page("made.html", info=info, job=found, made=made, reverted=made)
    merged = Merged.model_validate(found.result)
    if found.kind == "merge" and merged.state == "merged":
        return page("made.html", info=info, job=found, made=merged.version, reverted=None)
    return page(
        "merge.html",
        info=info,
        merged=merged,
        about=about,
        may_update=asked.may_update(),
        n_models=n_models,
        strategies=STRATEGIES,
    )
