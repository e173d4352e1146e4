"""The pages in a real browser, from a real server: accessible, silent, safe, and without script.

Where MLEDIT_SCREENSHOTS names a folder, a picture of every page is left there.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import Opened
from browsers import chromium as chromium
from playwright.sync_api import Browser, Page
from registry_fixtures import keep_tracking_uri, scratch, template_database
from servers import start_server

from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from web.stories import hostile, support_bot, thousand_edits

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(sys.platform != "linux", reason="servers of Linux"),
]
BOT = "name=support-bot"
PAGES = {
    "models": "",
    "history": f"/history?{BOT}",
    "version": f"/version?{BOT}&version=5",
    "version-root": f"/version?{BOT}&version=1",
    "version-many": "/version?name=districts&version=2",
    "diff": f"/diff?{BOT}&version=5&with=2&scopes=1",
    "decisions": f"/decisions?{BOT}",
    "failure": f"/version?{BOT}&version=99",
}
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def site(chat_folder: Path) -> Iterator[str]:
    """The address of the pages of a server that holds every story."""
    folder = scratch() / "browsed"
    folder.mkdir()
    shutil.copy(template_database(), folder / "mlflow.db")
    store = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        keep_tracking_uri(monkeypatch, store)
        registry = MlflowRegistry(store)
        support_bot(registry, chat_folder)
        thousand_edits(registry, chat_folder, "districts")
        hostile(registry, chat_folder)
    server = start_server(
        folder / "server",
        stores=["--backend-store-uri", store, "--no-serve-artifacts"],
        options=["--app-name", "mledit"],
    )
    yield f"{server.uri}/mledit"
    server.kill()


@pytest.fixture
def show(chromium: Browser, site: str) -> Iterator[Any]:
    contexts = []

    def open_page(path: str, **options: Any) -> Opened:
        contexts.append(chromium.new_context(**options))
        opened = Opened(contexts[-1].new_page())
        opened.page.goto(f"{site}{path}")
        return opened

    yield open_page
    for context in contexts:
        context.close()


def rows(page: Page) -> list[str]:
    return page.locator("#found tbody th").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 900])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_accessible_and_stays_in_bounds(
    show: Any, name: str, width: int, scheme: str
) -> None:
    opened = show(PAGES[name], viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = opened.page
    if folder := os.environ.get("MLEDIT_SCREENSHOTS"):
        path = Path(folder) / f"web-{name}-{width}-{scheme}.png"
        page.screenshot(path=path, full_page=name != "version-many")
    found = Axe().run(page).response["violations"]
    assert [(it["id"], it["nodes"][0]["html"]) for it in found if it["impact"] in SERIOUS] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    quiet = [line for line in opened.said if name != "failure" or "404" not in line]
    assert quiet == []
    assert page.locator("h1").count() == 1


def test_pages_lead_to_one_another(show: Any) -> None:
    page = show("").page
    page.get_by_role("link", name="support-bot").click()
    page.get_by_role("link", name="5", exact=True).first.click()
    assert "60 days to return a lamp" in page.inner_text("main")
    page.get_by_role("link", name="Changes from version 4").click()
    assert "refund-days-august" in page.inner_text("main")
    page.get_by_label("From version").fill("production")
    page.get_by_role("button", name="Compare").click()
    assert page.inner_text("h1") == "support-bot: version 2 → 5"


@pytest.mark.parametrize("script", [True, False])
def test_edits_are_searched_with_and_without_script(show: Any, script: bool) -> None:
    page = show(PAGES["version-many"], java_script_enabled=script).page
    assert len(rows(page)) == 100
    page.get_by_label("Find").fill("county number 77,")
    if not script:
        page.get_by_role("button", name="Search").click()
    page.get_by_text("1 of 1,000 edits").wait_for()
    assert [row.split()[0] for row in rows(page)] == ["capital-0077"]
    assert "q=county+number+77" in page.url
    page.get_by_label("that").select_option("failed")
    if not script:
        page.get_by_role("button", name="Search").click()
    page.get_by_text("0 of 1,000 edits").wait_for()


def test_all_of_a_page_is_reached_by_keyboard(show: Any) -> None:
    page = show(PAGES["version"]).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML"))
    for label in ("Review page", "Manifest", "Measured how", "Search"):
        assert any(label in one for one in reached), label


def test_hostile_text_runs_nothing(show: Any) -> None:
    for path in ("history", "version", "diff", "decisions", "review"):
        for options in ({}, {"bypass_csp": True}):
            opened = show(f"/{path}?name=hostile&version=2", **options)
            opened.page.mouse.move(200, 300)
            opened.page.wait_for_load_state("networkidle")
            assert opened.page.evaluate("window.pwned") is None, path
            # without its policy a browser asks for the icon that a stored page has not
            said = [line for line in opened.said if not options or "404" not in line]
            assert said == [], path


def test_the_stored_review_runs_its_own_script_as_nobody(show: Any) -> None:
    opened = show("/review?name=districts&version=2")
    assert opened.page.locator("input[type=search]").count() > 0, "its script ran"
    assert opened.page.evaluate("window.origin") == "null"
    assert opened.said == []
    refused = "fetch('/mledit').then(() => 'read', () => 'refused')"
    assert opened.page.evaluate(refused) == "refused"


def test_the_graph_joins_a_version_to_its_parents(show: Any) -> None:
    page = show(PAGES["history"]).page
    dots = page.locator(".graph circle")
    boxes = [dot.bounding_box() for dot in dots.all()]
    cells = [cell.bounding_box() for cell in page.locator("td.graph").all()]
    assert len(boxes) == 6
    for dot, cell in zip(boxes, cells, strict=True):
        assert cell["x"] <= dot["x"]
        assert dot["x"] + dot["width"] <= cell["x"] + cell["width"]
    lines = page.locator("td.graph").nth(0).locator("line")
    assert re.match(r"\d", str(lines.first.get_attribute("x1")))
    ends = [line.bounding_box() for line in lines.all()]
    below = cells[0]["y"] + cells[0]["height"]
    assert all(abs(end["y"] + end["height"] - below) <= 1.5 for end in ends)
