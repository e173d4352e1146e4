"""The table of routes, and the checks that stand before every one of them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from werkzeug.exceptions import Conflict

from mlflow_edit import errors
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.web.access import OpenAccess, Permission
from mlflow_edit.web.app import needs
from mlflow_edit.web.failures import STATUS
from mlflow_edit.web.headers import STORED_DOCUMENT
from mlflow_edit.web.routes import ROUTES, Route
from web.conftest import Bench, make_bench, raising

POSTS = [route for route in ROUTES if route.method == "POST"]
OF_MODELS = [route for route in ROUTES if route.needs is not Permission.SIGNED_IN]


@pytest.fixture
def bench(lived_in: Bench) -> Iterator[Bench]:
    """Pages of a model with a history, and with a job of ada's that waits."""
    about = {"version": 2, "prompt": "Who?"}
    with lived_in.queue.paused():
        lived_in.waiting = lived_in.queue.submit(
            "ask", "Asking", never, name="m", user="ada", about=about, limit=60.0
        ).id
        yield lived_in
        with suppress(Conflict):
            lived_in.queue.cancel(lived_in.waiting, name="m", user="ada")


def never(reporter: Reporter) -> NoReturn:
    """Be work that is not begun."""
    raise AssertionError


def send(bench: Bench, route: Route, **query: Any) -> Any:
    """Send a request that lacks nothing but what the test takes away."""
    if route in POSTS:
        return bench.post(route.path, query=query)
    job = {"id": bench.job} if route.path == "/job" else {}
    return bench.client.get(
        route.address, query_string={"name": "m", "version": "2", **job, **query}
    )


def state(bench: Bench) -> Any:
    """Return all that an action could change."""
    states = sorted(job.state for job in bench.queue.listed())
    return bench.registry.ledger("m"), bench.registry.versions("m"), bench.jobs(), states


def named(route: Route) -> str:
    return f"{route.method} {route.address}"


def test_what_is_served_is_what_the_table_says(bench: Bench) -> None:
    served = {
        (rule.rule, method)
        for rule in bench.app.url_map.iter_rules()
        if rule.endpoint.startswith("mledit.")
        for method in rule.methods or ()
    }
    assert served == set(needs("", ROUTES))
    assert len({(route.path, route.method) for route in ROUTES}) == len(ROUTES)


def test_what_is_served_below_a_prefix_is_what_the_table_says(chat_folder: Path) -> None:
    bench = make_bench(chat_folder, "/ml")
    rules = [rule for rule in bench.app.url_map.iter_rules() if rule.endpoint != "static"]
    assert {(rule.rule, m) for rule in rules for m in rule.methods or ()} == set(
        needs("/ml", ROUTES)
    )


@pytest.mark.parametrize(
    ("path", "method", "permission"),
    [
        ("/version/<name>", "GET", Permission.READ),
        ("/approve", "POST", Permission.READ),
        ("/approve", "POST", Permission.SIGNED_IN),
        ("/approve", "PUT", Permission.UPDATE),
    ],
)
def test_a_route_that_no_validator_could_guard_cannot_be_written(
    path: str, method: str, permission: Permission
) -> None:
    with pytest.raises(ValueError, match=path):
        Route(path, method, permission, raising(AssertionError()))


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_every_route_answers_who_may(bench: Bench, route: Route) -> None:
    assert send(bench, route).status_code in (200, 303)


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_every_route_refuses_who_did_not_sign_in(bench: Bench, route: Route) -> None:
    bench.access.name = None
    assert send(bench, route).status_code == 401


@pytest.mark.parametrize("route", OF_MODELS, ids=named)
def test_every_route_of_a_model_refuses_who_lacks_the_permission(
    bench: Bench, route: Route
) -> None:
    bench.access.granted["m"] = set(Permission) - {route.needs}
    before = state(bench)
    assert send(bench, route).status_code == 403
    assert state(bench) == before


@pytest.mark.parametrize("route", OF_MODELS, ids=named)
@pytest.mark.parametrize("name", [["mine", "m"], ["m", "mine"], []])
def test_every_route_of_a_model_refuses_two_names_and_none(
    bench: Bench, route: Route, name: list[str]
) -> None:
    bench.access.granted["m"] = set()
    assert send(bench, route, name=name).status_code == 403


@pytest.mark.parametrize("route", POSTS, ids=named)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_what_changes_something_is_only_posted(bench: Bench, route: Route, method: str) -> None:
    before = state(bench)
    answer = bench.client.open(route.address, method=method, query_string={"name": "m"})
    looked = method in ("GET", "HEAD") and route.path in {r.path for r in ROUTES if r not in POSTS}
    assert answer.status_code == (200 if looked else 405)
    assert state(bench) == before


# The way to other pages

TRAIL = [
    ("history", "name=m"),
    ("version", "name=m&amp;version=2"),
    ("decisions", "name=m"),
    ("diff", "name=m&amp;version=2"),
    ("ask", "name=m&amp;version=2"),
    ("merge", "name=m&amp;version=2"),
]


def trail(text: str) -> list[tuple[str, str]]:
    """Return where the links at the top of a page lead, after the list of models."""
    top = text.partition("<nav")[2].partition("</nav>")[0]
    return re.findall(r'href="/mledit/(\w+)\?([^"]*)"', top)


@pytest.mark.parametrize("path", ["/version", "/diff", "/ask", "/merge", "/revert"])
def test_every_page_about_a_version_has_the_same_trail(bench: Bench, path: str) -> None:
    found = trail(bench.get(path, name="m", version="2").text)
    assert found == TRAIL


@pytest.mark.parametrize("path", ["/promote", "/rollback", "/revert"])
def test_what_an_action_first_shows_has_the_same_trail(bench: Bench, path: str) -> None:
    assert trail(bench.post(path, confirmed=None).text) == TRAIL


@pytest.mark.parametrize("path", ["/history", "/decisions"])
def test_a_page_about_a_whole_model_names_no_version(bench: Bench, path: str) -> None:
    found = trail(bench.get(path, name="m").text)
    assert found == [(name, "name=m") for name, _ in TRAIL if name != "version"]


# A job that nobody wants any more


def test_a_job_that_waits_is_dropped(bench: Bench) -> None:
    place = f"/mledit/job?name=m&id={bench.waiting}"
    waiting = bench.client.get(place).text
    assert ">Cancel</button>" in waiting
    assert trail(waiting) == TRAIL
    assert bench.client.get(bench.post("/cancel").location).request.full_path in place
    text = bench.client.get(place).text
    assert "Cancelled. Nothing was registered." in text
    assert trail(text) == TRAIL
    assert "<button" not in text
    assert "job.js" not in text


def test_a_job_that_is_over_is_not_cancelled(bench: Bench) -> None:
    for id in (bench.job, bench.waiting, bench.waiting):
        status = bench.post("/cancel", query={"id": id}).status_code
    assert status == 409
    assert bench.post("/cancel", query={"id": bench.job}).status_code == 409


def test_nobody_else_cancels_a_job(bench: Bench) -> None:
    bench.access.name = "eve"
    before = state(bench)
    assert bench.post("/cancel").status_code == 404
    assert state(bench) == before


def test_who_may_only_read_cancels_a_job_of_theirs(bench: Bench) -> None:
    bench.access.granted["m"] = {Permission.READ}
    assert bench.post("/cancel").status_code == 303


# Forgery


@pytest.mark.parametrize("route", POSTS, ids=named)
@pytest.mark.parametrize("token", [None, "", "0" * 64, "ünï"])
def test_a_missing_or_wrong_token_is_refused(bench: Bench, route: Route, token: Any) -> None:
    before = state(bench)
    assert bench.post(route.path, csrf=token).status_code == 403
    assert state(bench) == before


@pytest.mark.parametrize("route", POSTS, ids=named)
def test_a_token_without_its_session_is_refused(bench: Bench, route: Route) -> None:
    token = bench.token()
    bench.client.delete_cookie("mledit-session", path="/mledit")
    before = state(bench)
    answer = bench.client.post(
        f"{route.address}?name=m&version=1", data={"csrf": token, "digest": bench.root.digest}
    )
    assert answer.status_code == 403
    assert state(bench) == before


@pytest.mark.parametrize("route", POSTS, ids=named)
def test_a_token_of_another_user_is_refused(bench: Bench, route: Route) -> None:
    token = bench.token()
    session = bench.client.get_cookie("mledit-session", path="/mledit")
    bench.access.name = "eve"
    assert session is not None
    answer = bench.client.post(
        f"{route.address}?name=m&version=1", data={"csrf": token, "digest": bench.root.digest}
    )
    assert answer.status_code == 403


@pytest.mark.parametrize("route", POSTS, ids=named)
@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Sec-Fetch-Site", "same-origin", 303),
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "http://localhost", 303),
    ],
)
def test_what_another_site_sends_is_refused(
    bench: Bench, route: Route, header: str, value: str, status: int
) -> None:
    assert bench.post(route.path, headers={header: value}).status_code == status


def test_the_secret_key_of_the_server_is_in_the_token(bench: Bench) -> None:
    bench.app.secret_key = "one"
    token = bench.token()
    bench.app.secret_key = "two"
    answer = bench.client.post(
        "/mledit/approve?name=m&version=1", data={"csrf": token, "digest": bench.root.digest}
    )
    assert answer.status_code == 403


# What a form was drawn from


@pytest.mark.parametrize("route", [one for one in POSTS if not one.own], ids=named)
def test_a_stale_version_is_refused(bench: Bench, route: Route) -> None:
    before = state(bench)
    answer = bench.post(route.path, digest="0" * 64)
    assert answer.status_code == 409
    assert "is version 2 by now" in answer.text
    assert state(bench) == before


# Answers


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_every_answer_has_the_headers(bench: Bench, route: Route) -> None:
    headers = send(bench, route).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy or policy == STORED_DOCUMENT
    assert (route.path == "/review") is (policy == STORED_DOCUMENT)
    assert "frame-ancestors 'self'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Cache-Control" in headers


@pytest.mark.parametrize(("kind", "status"), STATUS.items(), ids=lambda it: str(it))
def test_every_error_is_a_page_with_its_status(
    chat_folder: Path, kind: type[errors.MlflowEditError], status: int
) -> None:
    error = kind("<script>no</script>", hint="Do this.")
    route = Route("/fails", "GET", Permission.SIGNED_IN, raising(error))
    answer = make_bench(chat_folder, routes=(*ROUTES, route)).get("/fails")
    assert answer.status_code == status
    assert "&lt;script&gt;no" in answer.text
    assert "Do this." in answer.text
    assert "nosniff" in answer.headers["X-Content-Type-Options"]


def test_a_defect_is_a_page_without_what_it_said(chat_folder: Path) -> None:
    route = Route("/fails", "GET", Permission.SIGNED_IN, raising(ZeroDivisionError("the secret")))
    answer = make_bench(chat_folder, routes=(*ROUTES, route)).get("/fails")
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.text
    assert "the secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/manifest", {"name": "m", "version": "9"}, 404),
        ("/manifest", {"name": "none"}, 404),
        ("/manifest", {"name": "a/b"}, 400),
        ("/manifest", {"name": "m", "version": "1@2"}, 400),
        ("/manifest", {"name": "m", "version": ["1", "1"]}, 400),
        ("", {"q": ["a", "b"]}, 400),
    ],
)
def test_what_cannot_be_read_or_found_is_said(
    bench: Bench, path: str, query: dict[str, Any], status: int
) -> None:
    assert bench.get(path, **query).status_code == status


def test_a_manifest_is_given_as_it_is_stored(bench: Bench) -> None:
    answer = bench.get("/manifest", name="m")
    assert answer.data == bench.registry.manifest(bench.registry.versions("m")[1]).to_bytes()
    assert answer.mimetype == "application/json"


def test_without_users_somebody_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLEDIT_AUTHOR", raising=False)
    assert OpenAccess().user() == "anonymous"
    monkeypatch.setenv("MLEDIT_AUTHOR", "Ada")
    assert OpenAccess().user() == "Ada"


def test_no_page_waits_for_torch() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import mlflow_edit.web.app, sys; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "False"
