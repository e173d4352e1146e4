"""Every route of the pages, in one table: its method, what it needs, and the view.

Nothing else adds a route; what stands here has a permission, and so a validator of basic-auth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flask import Response

from mlflow_edit.web.access import Permission
from mlflow_edit.web.actions.cancel import cancel
from mlflow_edit.web.actions.merge import merge, preview
from mlflow_edit.web.actions.promote import promote
from mlflow_edit.web.actions.revert import choose, revert
from mlflow_edit.web.actions.rollback import rollback
from mlflow_edit.web.actions.verdict import approve, reject
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.pages.ask import ask
from mlflow_edit.web.pages.decisions import decisions
from mlflow_edit.web.pages.diff import diff
from mlflow_edit.web.pages.history import history
from mlflow_edit.web.pages.job import job
from mlflow_edit.web.pages.manifest import manifest
from mlflow_edit.web.pages.models import models
from mlflow_edit.web.pages.review import review
from mlflow_edit.web.pages.version import version
from mlflow_edit.web.rendering import FILES, ROOT, static_file

SIGNED_IN, READ, UPDATE = Permission.SIGNED_IN, Permission.READ, Permission.UPDATE


@dataclass(frozen=True, slots=True)
class Route:
    """One address and method. `path` is fixed: MLflow compares paths whole.

    A route that is not `GET` changes something: its form needs our token, and who sends it
    `UPDATE`; to read is enough where it changes an `own` job of the user's and no model.

    Raises:
        ValueError: the path has parameters, or the method and the permission do not fit.
    """

    path: str
    method: str
    needs: Permission
    view: Callable[[Asked], Response]
    own: bool = False

    def __post_init__(self) -> None:
        if "<" in self.path or self.method not in ("GET", "POST"):
            raise ValueError(f"{self.method} {self.path}: fixed paths, GET and POST only")
        least = READ if self.own else UPDATE
        if self.method == "POST" and self.needs is not least:
            raise ValueError(f"{self.method} {self.path} changes something and needs {least.name}")

    @property
    def address(self) -> str:
        """Return the path below the server's static prefix."""
        return ROOT + self.path


def _static(name: str, asked: Asked) -> Response:
    return static_file(name)


ROUTES: tuple[Route, ...] = (
    Route("", "GET", SIGNED_IN, models),
    Route("/history", "GET", READ, history),
    Route("/decisions", "GET", READ, decisions),
    Route("/version", "GET", READ, version),
    Route("/diff", "GET", READ, diff),
    Route("/review", "GET", READ, review),
    Route("/manifest", "GET", READ, manifest),
    Route("/ask", "GET", READ, ask),
    Route("/job", "GET", READ, job),
    Route("/cancel", "POST", READ, cancel, own=True),
    Route("/approve", "POST", UPDATE, approve),
    Route("/reject", "POST", UPDATE, reject),
    Route("/promote", "POST", UPDATE, promote),
    Route("/rollback", "POST", UPDATE, rollback),
    Route("/revert", "GET", UPDATE, choose),
    Route("/revert", "POST", UPDATE, revert),
    Route("/merge", "GET", READ, preview),
    Route("/merge", "POST", UPDATE, merge),
    *(Route(f"/{name}", "GET", SIGNED_IN, partial(_static, name)) for name in FILES),
)
