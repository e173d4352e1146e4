"""Templates, links and our own static files. Everything is escaped, and nothing is undefined."""

import hashlib
from functools import cache
from importlib import resources
from urllib.parse import urlencode

from flask import Response, current_app, g, request
from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.utils import redirect

from mlflow_edit.core.text import counted
from mlflow_edit.review.words import clip, visible
from mlflow_edit.web.forgery import FIELD, token_for

ROOT = "/mledit"
FILES = {
    "style.css": ("text/css", (("review", "templates/palette.css"), ("web", "static/style.css"))),
    "filter.js": ("text/javascript", (("web", "static/filter.js"),)),
    "job.js": ("text/javascript", (("web", "static/job.js"),)),
}


def page(template: str, *, status: int = 200, **values: object) -> Response:
    """Render a template of ours as the answer to this request."""
    values |= {"status": status, "user": g.get("mledit_user")}
    text = environment().get_template(template).render(values)
    return Response(text, status=status, mimetype="text/html")


def link(path: str, **query: object) -> str:
    """Return the address of one of our routes, below the server's static prefix.

    Args:
        path: of the route, for example `/version`; empty for the first page.
        query: its parameters; those that are None are left out.
    """
    given = {key: value for key, value in query.items() if value is not None}
    prefix = current_app.extensions["mledit"].prefix
    return f"{prefix}{ROOT}{path}" + (f"?{urlencode(given)}" if given else "")


def see_other(path: str, **query: object) -> Response:
    """Send the browser to a page, after an action: loading it again does not act again."""
    answer = redirect(link(path, **query), code=303, Response=Response)
    assert isinstance(answer, Response)
    return answer


def static_file(name: str) -> Response:
    """Answer with one of our static files; its address changes with its content."""
    media_type, _ = FILES[name]
    answer = Response(_file(name), mimetype=media_type)
    answer.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return answer


@cache
def _file(name: str) -> str:
    """Return a file joined from its parts; the palette is the review page's."""
    _, parts = FILES[name]
    return "".join(
        resources.files(f"mlflow_edit.{package}").joinpath(path).read_text("utf-8")
        for package, path in parts
    )


def _file_link(name: str) -> str:
    return link(f"/{name}", v=hashlib.sha256(_file(name).encode()).hexdigest()[:12])


def _mlflow_link(fragment: str) -> str:
    """Return the address of one of MLflow's own pages, for example `#/models/NAME`."""
    return f"{current_app.extensions['mledit'].prefix}/{fragment}"


def _token() -> str:
    return token_for(g.mledit_user)


def _is_here(path: str) -> bool:
    return request.path == link(path)


def _is_served(path: str) -> bool:
    """Say whether one of our routes has this path."""
    return any(rule.rule == link(path) for rule in current_app.url_map.iter_rules())


@cache
def environment() -> Environment:
    """Return the environment of all our templates."""
    made = Environment(
        loader=PackageLoader("mlflow_edit.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        clip=clip, counted=counted, short=lambda digest: str(digest)[:12], date=_date,
        first_line=lambda text: text.partition("\n")[0],
        person=lambda who: who.partition("<")[0].strip() or who,
    )  # fmt: skip
    made.globals.update(
        link=link, file_link=_file_link, mlflow_link=_mlflow_link, is_here=_is_here,
        is_served=_is_served,        csrf_field=FIELD, csrf_token=_token,
    )  # fmt: skip
    return made


def _date(stamp: str) -> str:
    """Write a time of the form `2026-01-02T03:04:05.678Z` to the minute, in UTC."""
    return stamp[:16].replace("T", " ")
