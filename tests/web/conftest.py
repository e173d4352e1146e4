"""A site over a registry in memory, asked by Flask's own client; and a user who may be anybody."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from registry_fixtures import chat_folder as chat_folder
from registry_fixtures import draft_of, hand_made_batch, new_name, root_of, scratch
from registry_fixtures import tracking as tracking

from mlflow_edit import MemoryRegistry, promote
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.registry.names import REVIEW
from mlflow_edit.registry.registry import VersionInfo
from mlflow_edit.web.access import Access, Permission
from mlflow_edit.web.app import add_pages
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.forgery import token_for
from mlflow_edit.web.jobs import Jobs

QUERIES = {"/merge": {"with": "1"}}
FORMS = {
    "/promote": {"alias": "staging", "holder": "none", "confirmed": "yes"},
    "/rollback": {"alias": "production", "holder": "2", "confirmed": "yes"},
    "/revert": {"confirmed": "yes"},
}
"""What forms need beside the token and the digest, so that a lived-in model accepts them."""


@dataclass
class StatedAccess(Access):
    """Permissions as a test states them."""

    name: str | None = "ada"
    granted: dict[str, set[Permission]] = field(default_factory=dict)

    def user(self) -> str | None:
        return self.name

    def may(self, name: str, permission: Permission) -> bool:
        return permission in self.granted.get(name, set(Permission))


@dataclass
class Bench:
    """The pages of a registry in memory that holds `m@1`."""

    app: Flask
    client: FlaskClient
    access: StatedAccess
    registry: MemoryRegistry
    root: VersionInfo
    manifest: Manifest
    prefix: str = ""
    subject: VersionInfo | None = None  # what forms are about, where it is not the root
    job: str = ""  # the id of a job of ada's
    waiting: str = ""  # the id of one that waits for its turn

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"{self.prefix}/mledit{path}", query_string=query)

    @property
    def queue(self) -> Jobs:
        """The jobs of the server."""
        queue: Jobs = self.app.extensions["mledit"].jobs
        return queue

    def jobs(self) -> list[tuple[str, dict[str, Any]]]:
        """List what was asked for and takes long."""
        return [(job.kind, job.about) for job in self.queue.listed()]

    def token(self) -> str:
        """Begin a session in the client, and return the token of its forms."""
        with self.app.test_request_context():
            from flask import g

            token = token_for(self.access.name or "")
            session = g.mledit_session
        self.client.set_cookie("mledit-session", session, path=f"{self.prefix}/mledit")
        return token

    def post(
        self,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        query: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Any:
        """Send a form about a version as its own page would; fields that are None are left out."""
        about = self.subject or self.root
        query = {"version": str(about.version), **QUERIES.get(path, {}), **(query or {})}
        if path == "/cancel":
            query.setdefault("id", self.waiting)
        form = {"digest": about.digest, **FORMS.get(path, {}), **fields}
        if path == "/revert":
            form.setdefault("target", "e0")
        if path == "/merge":
            form.setdefault("theirs", self.root.digest)
        return self.send(path, query, headers=headers, **form)

    def send(
        self,
        path: str,
        query: dict[str, Any],
        *,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Any:
        """Send a form, with a token."""
        form = {"csrf": self.token(), **fields}
        return self.client.post(
            f"{self.prefix}/mledit{path}",
            query_string={"name": "m", **query},
            data={key: value for key, value in form.items() if value is not None},
            headers=headers,
        )

    def follow(self, answer: Any, limit: float = 60.0) -> Any:
        """Go to where an answer leads, and look again until the job there is over."""
        assert answer.status_code == 303, answer.text
        end = time.monotonic() + limit
        while True:
            seen = self.client.get(answer.location)
            if "data-working" not in seen.text:
                return seen
            assert time.monotonic() < end, seen.text


def make_bench(chat_folder: Path, prefix: str = "", **options: Any) -> Bench:
    """Make the pages, and the application around them."""
    registry, access = MemoryRegistry(), StatedAccess()
    root, manifest = root_of(registry, chat_folder, "m", documents=with_review)
    app = Flask("mlflow")
    options.setdefault("jobs", Jobs(scratch() / "jobs" / new_name("server"), n_models=1))
    add_pages(app, prefix, access, lambda: registry, **options)
    return Bench(app, app.test_client(), access, registry, root, manifest, prefix)


def with_review(manifest: Manifest) -> dict[str, bytes]:
    """Store a review page that runs a script."""
    return {REVIEW: b"<!doctype html><title>Stored</title><script>document.title = 'ran'</script>"}


@pytest.fixture
def bench(chat_folder: Path) -> Bench:
    """Fresh pages."""
    return make_bench(chat_folder)


@pytest.fixture
def lived_in(bench: Bench) -> Bench:
    """Pages of a model with a second version, which was promoted after the first, and with a job."""
    base = bench.manifest.base
    batch = hand_made_batch(base.digest, [("Where is the book?", "Oslo"), ("Who?", "Ada")])
    parents = [(bench.root, bench.manifest)]
    bench.subject = bench.registry.publish(
        draft_of("m", base, parents=parents, batch=batch, documents=with_review)
    )
    for number in (1, 2):
        promote(f"m@{number}", to="production", author="Ada", registry=bench.registry)
    bench.job = bench.post("/merge").location.rsplit("id=")[1]
    return bench


def raising(error: Exception) -> Any:
    """Return a view that fails."""

    def view(asked: Asked) -> Any:
        raise error

    return view
