"""Try a version: the base model's answer and the edited one's, which edit gave it, and why."""

from typing import TYPE_CHECKING

from flask import Response

from mlflow_edit.errors import InvalidInputError
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.forgery import came_from_here
from mlflow_edit.web.rendering import page, see_other

if TYPE_CHECKING:  # pages must not wait for torch
    from mlflow_edit.operations.blame import Blamed

MAX_PROMPT = 4000  # characters
TIME_LIMIT = 120.0  # seconds


def ask(asked: Asked) -> Response:
    """Put a question to a version; a link from elsewhere only fills it in.

    It is a GET, for it changes nothing, and who may read may ask. It costs work: the queue has
    limits, and other sites cannot make a browser ask.
    """
    info, prompt = asked.version(), asked.parameter("prompt", "")
    if len(prompt) > MAX_PROMPT:
        raise InvalidInputError(
            f"the question has {len(prompt):,} characters; at most {MAX_PROMPT:,} are asked"
        )
    here = came_from_here(asked.user)
    if not (here and prompt.strip() and asked.jobs.n_models):
        return page(
            "ask.html", info=info, prompt=prompt, answered=None, n_models=asked.jobs.n_models
        )
    ref, registry = asked.ref(info), asked.registry

    def work(reporter: Reporter) -> "Blamed":
        from mlflow_edit.operations.blame import blame

        return blame(ref, prompt, registry=registry, reporter=reporter)

    job = asked.jobs.submit(
        "ask",
        f"Asking {ref}",
        work,
        name=info.name,
        user=asked.user,
        about={"version": info.version, "prompt": prompt},
        limit=TIME_LIMIT,
    )
    return see_other("/job", name=info.name, id=job.id)
