"""A site over a registry in memory, asked by Flask's own client; and a user who may be anybody."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from registry_fixtures import chat_folder as chat_folder
from registry_fixtures import root_of
from registry_fixtures import tracking as tracking

from mlflow_edit import MemoryRegistry
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.registry.names import REVIEW
from mlflow_edit.registry.registry import VersionInfo
from mlflow_edit.web.access import Access, Permission
from mlflow_edit.web.app import add_pages
from mlflow_edit.web.asked import Asked
from mlflow_edit.web.forgery import token_for


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

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"{self.prefix}/mledit{path}", query_string=query)

    def token(self) -> str:
        """Begin a session in the client, and return the token of its forms."""
        with self.app.test_request_context():
            from flask import g

            token = token_for(self.access.name or "")
            session = g.mledit_session
        self.client.set_cookie("mledit-session", session, path=f"{self.prefix}/mledit")
        return token

    def post(self, path: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """Send a form about `m@1` as its own page would; fields that are None are left out."""
        form = {"csrf": self.token(), "digest": self.root.digest, **fields}
        return self.client.post(
            f"{self.prefix}/mledit{path}?name=m&version=1",
            data={key: value for key, value in form.items() if value is not None},
            headers=headers,
        )


def make_bench(chat_folder: Path, prefix: str = "", **options: Any) -> Bench:
    """Make the pages, and the application around them."""
    registry, access = MemoryRegistry(), StatedAccess()
    root, manifest = root_of(registry, chat_folder, "m", documents=with_review)
    app = Flask("mlflow")
    add_pages(app, prefix, access, lambda: registry, **options)
    return Bench(app, app.test_client(), access, registry, root, manifest, prefix)


def with_review(manifest: Manifest) -> dict[str, bytes]:
    """Store a review page that runs a script."""
    return {REVIEW: b"<!doctype html><title>Stored</title><script>document.title = 'ran'</script>"}


@pytest.fixture
def bench(chat_folder: Path) -> Bench:
    """Fresh pages."""
    return make_bench(chat_folder)


def raising(error: Exception) -> Any:
    """Return a view that fails."""

    def view(asked: Asked) -> Any:
        raise error

    return view
