"""What takes long, in a real browser: waited for, and given up."""

import sys
import threading
from collections.abc import Iterator

import pytest
from browsers import Opened
from browsers import chromium as chromium
from playwright.sync_api import Browser
from werkzeug.serving import make_server

from web.conftest import Bench

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(sys.platform != "linux", reason="servers of Linux"),
]


@pytest.fixture
def address(lived_in: Bench) -> Iterator[str]:
    """The pages of a model with a history, served in this process, whose queue stands still."""
    server = make_server("127.0.0.1", 0, lived_in.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with lived_in.queue.paused():
        yield f"http://127.0.0.1:{server.server_port}/mledit"
    server.shutdown()
    thread.join(10)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_job_that_waits_is_cancelled(
    chromium: Browser, lived_in: Bench, address: str, scripts: bool
) -> None:
    context = chromium.new_context(java_script_enabled=scripts)
    context.set_default_timeout(20_000)
    opened = Opened(context.new_page())
    page = opened.page
    page.goto(f"{address}/version?name=m&version=2")
    page.get_by_label("Ask version 2").fill("Who?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("Waiting for its turn").wait_for()
    (job,) = [job for job in lived_in.queue.listed() if job.kind == "ask"]
    assert job.state == "waiting"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled. Nothing was registered.").wait_for()
    assert page.get_by_role("button").count() == 0
    assert lived_in.queue.find(job.id, name="m", user="ada").state == "cancelled"
    page.get_by_role("link", name="Back to version 2").click()
    assert page.get_by_label("Ask version 2").is_visible()
    context.close()
    assert opened.said == []
