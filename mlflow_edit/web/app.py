"""The applications `mledit` and `mledit-basic-auth` of `mlflow server --app-name`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, request
from werkzeug.exceptions import Forbidden, RequestEntityTooLarge, Unauthorized

from mlflow_edit.registry.registry import Registry
from mlflow_edit.web import mlflow_server
from mlflow_edit.web.access import Access, OpenAccess, Permission
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.failures import failure_page
from mlflow_edit.web.forgery import check_origin_and_token, keep_session
from mlflow_edit.web.headers import protect
from mlflow_edit.web.jobs import Jobs, jobs_folder, n_models
from mlflow_edit.web.rendering import link
from mlflow_edit.web.routes import ROUTES, Route

MAX_FORM = 2_000_000  # bytes


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages of one application share, as `app.extensions["mledit"]`."""

    prefix: str
    access: Access
    open_registry: Callable[[], Registry]
    jobs: Jobs


def create_app() -> Any:
    """Make MLflow's server with our pages in it, for a server without users.

    Raises:
        RegistryError: this MLflow has not what the pages need.
    """
    app = mlflow_server.flask_app()
    prefix = mlflow_server.static_prefix()
    add_pages(app, prefix, OpenAccess(), mlflow_server.server_registry)
    return mlflow_server.served(app)


def create_basic_auth_app() -> Any:
    """Make MLflow's server with its basic-auth and our pages behind it.

    Raises:
        RegistryError: this MLflow has not what the pages need.
    """
    app, access = mlflow_server.flask_app(), mlflow_server.BasicAuthAccess()
    prefix = mlflow_server.static_prefix()
    add_pages(app, prefix, access, mlflow_server.server_registry)
    return access.compose(app, needs(prefix, ROUTES))


def needs(prefix: str, routes: Sequence[Route]) -> dict[tuple[str, str], Permission]:
    """Return what each route needs, by path and method; a HEAD is answered where a GET is."""
    return {
        (prefix + route.address, method): route.needs
        for route in routes
        for method in (("GET", "HEAD") if route.method == "GET" else (route.method,))
    }


def add_pages(
    app: Flask,
    prefix: str,
    access: Access,
    open_registry: Callable[[], Registry],
    routes: Sequence[Route] = ROUTES,
    jobs: Jobs | None = None,
) -> None:
    """Add our routes to an application, each behind the same checks.

    Args:
        app: the application, before it is wrapped.
        prefix: the server's static prefix.
        access: who asks, and what they may do.
        open_registry: asked when the first page needs it, in the process that answers.
        routes: what to add.
        jobs: what works off what takes long; None takes one as the environment says.

    Raises:
        InvalidInputError: the environment says something that cannot be.
    """
    jobs = jobs or Jobs(jobs_folder(), n_models=n_models())
    app.extensions["mledit"] = Site(prefix, access, open_registry, jobs)
    pages = Blueprint("mledit", __name__, url_prefix=prefix or None)
    for number, route in enumerate(routes):
        pages.add_url_rule(
            route.address,
            f"{number}",
            _guarded(route),
            methods=[route.method],
            provide_automatic_options=False,
        )
    pages.register_error_handler(Exception, failure_page)
    pages.after_request(_finish)
    app.register_blueprint(pages)


def _guarded(route: Route) -> Callable[[], Response]:
    def view() -> Response:
        site: Site = current_app.extensions["mledit"]
        g.mledit_user = user = site.access.user()
        if user is None:
            raise Unauthorized("Sign in first.")
        if route.needs is not Permission.SIGNED_IN:
            names = request.args.getlist("name")
            if len(names) != 1 or not site.access.may(names[0], route.needs):
                raise Forbidden(f"This needs the permission to {route.needs.value} the model.")
        if route.method == "POST":
            if (request.content_length or 0) > MAX_FORM:
                raise RequestEntityTooLarge()
            check_origin_and_token(user)
        return route.view(
            Asked(user, site.access, site.open_registry, site.jobs, request.args, request.form)
        )

    return view


def _finish(response: Response) -> Response:
    keep_session(response, path=link(""))
    protect(response)
    return response
