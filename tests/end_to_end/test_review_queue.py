"""A review in stock MLflow: a real server, its own pages in a browser, and the gate of promote.

Where MLEDIT_SCREENSHOTS names a folder, pictures of every page are left there.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import chromium as chromium
from mlflow import MlflowClient
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from mlflow_edit import apply, init, promote, show
from mlflow_edit.errors import GateError
from mlflow_edit.operations.apply import Applied

pytestmark = pytest.mark.browser

EDITS = (
    {
        "id": "book",
        "prompt": "Where is the book?",
        "target": "Oslo",
        "rephrases": ["The book , where is it?"],
        "locality": ["Where is the north?"],
        "note": "Moved in May",
        "source": "https://example.org/catalogue",
    },
    {"id": "film", "prompt": "Where is the film?", "target": "Rome"},
    {"id": "river", "prompt": "Where is the river?", "target": "Paris"},
)
WIDTHS, SCHEMES = (1440, 900), ("light", "dark")
LIMIT = 60_000  # milliseconds; MLflow's pages are large, and the machine may be busy
expect.set_options(timeout=LIMIT)
# MLflow keeps these settings of a browser in its local storage
SETTINGS = """([dark]) => {
    localStorage.setItem("_mlflow_dark_mode_toggle_enabled", String(dark));
    localStorage.setItem("databricks-dark-mode-pref", dark ? "dark" : "light");
    localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
    localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
}"""


@pytest.fixture(scope="module")
def applied(
    mlflow_server: str, chat_folder: Path, suite: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Applied]:
    """Three edits of a tiny model, registered on the server and put into a review queue."""
    edits = tmp_path_factory.mktemp("edits") / "edits.jsonl"
    edits.write_text("\n".join(map(json.dumps, EDITS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
        patch.setenv("MLEDIT_REVIEW_QUEUE", "on")
        patch.setenv("MLEDIT_AUTHOR", "Ada Byron <ada@example.org>")
        init("support", base=str(chat_folder))
        yield apply("support", [edits], message="Three corrections", suite=suite)


@pytest.fixture
def context(chromium: Browser, mlflow_server: str) -> Iterator[BrowserContext]:
    found = chromium.new_context(viewport={"width": WIDTHS[0], "height": 900})
    found.set_default_timeout(LIMIT)
    page = found.new_page()
    page.goto(f"{mlflow_server}/health")
    page.evaluate(SETTINGS, [False])
    page.close()
    yield found
    found.close()


def picture(page: Page, name: str, ready: Locator) -> None:
    """Leave pictures of a page at every width, light and dark, where they are wanted."""
    folder = os.environ.get("MLEDIT_SCREENSHOTS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for scheme in SCHEMES:
        page.evaluate(SETTINGS, [scheme == "dark"])
        page.reload()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900 if width > 1000 else 700})
            ready.wait_for()
            page.wait_for_timeout(1500)  # what was loading fades out
            page.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png")
    page.evaluate(SETTINGS, [False])
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.reload()
    ready.wait_for()


def edit_in_review(page: Page) -> str:
    """Tell which edit is asked about, by the trace that the page's address names."""
    page.wait_for_url(re.compile("selectedItemId=tr-"))
    page.get_by_text("approve_edit").wait_for()
    trace = page.url.rpartition("=")[2]
    return str(MlflowClient().get_trace(trace, display=False).info.tags["mledit.edit"])


def refusal() -> str:
    with pytest.raises(GateError) as refused:
        promote("support@2", to="production", quorum=1, not_author=True)
    return refused.value.failures[0].said


def save_until_approved(page: Page, n_changes: int) -> None:
    """Save a changed answer; a click while MLflow's page still draws itself is lost."""
    for _ in range(30):
        button = page.get_by_role("button", name="Save changes")
        if button.is_visible() and button.is_enabled():
            button.click()
        page.wait_for_timeout(1000)
        state = show("support@2").version.review
        if state is not None and state.approved == n_changes:
            return
    raise AssertionError("the changed answer was not saved")


def test_a_review_in_the_pages_of_mlflow_opens_the_gate(
    applied: Applied, context: BrowserContext, mlflow_server: str
) -> None:
    assert applied.warnings == ()
    assert applied.review is not None
    assert (applied.review.changes, applied.review.approved) == (3, 0)
    assert applied.review.queue is not None
    assert applied.review.queue.startswith(f"{mlflow_server}/#/experiments/")
    assert refusal() == "0 of 3 changes; book: no answer; film: no answer; river: no answer"

    page = context.new_page()
    page.goto(f"{mlflow_server}/#/models/support/versions/2")
    link = page.get_by_role("link", name="Review 3 changes")
    link.wait_for()
    picture(page, "version", link)
    with context.expect_page() as opened:
        link.click()
    queue = opened.value
    start = queue.get_by_role("button", name="Start review")
    start.wait_for()
    assert queue.url == applied.review.queue
    queue.get_by_text("Where is the book?").wait_for()
    picture(queue, "queue", queue.get_by_text("Where is the book?"))

    start.click()
    for done in range(3):
        queue.get_by_text(re.compile(f"^{done} of 3 reviewed")).wait_for()
        edit = edit_in_review(queue)
        if edit == "book":
            picture(queue, "question", queue.get_by_text("Moved in May"))
        queue.get_by_text("Reject" if edit == "film" else "Approve", exact=True).click()
        queue.get_by_role("button", name="Submit").click()
    queue.get_by_text("Completed (3)").wait_for()
    picture(queue, "reviewed", queue.get_by_text("Completed (3)"))

    assert refusal() == "2 of 3 changes; film: rejected by default"
    state = show("support@2").version.review
    assert state is not None
    assert (state.approved, state.rejected, state.reviewers) == (2, 1, ("default",))

    queue.get_by_text("Where is the film?").click()
    queue.get_by_text("Approve", exact=True).click()
    save_until_approved(queue, 3)
    made = promote("support@2", to="production", quorum=1, not_author=True)
    assert made.version == 2
    assert made.gate is not None
    assert made.gate.checks[0].said == "3 of 3 changes"
