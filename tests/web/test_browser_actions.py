"""The pages in a real browser over a real server: everything by clicking, with and without scripts."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import chromium as chromium
from playwright.sync_api import Browser, Page
from registry_fixtures import BOOK, FILM, keep_tracking_uri, scratch, template_database
from registry_fixtures import suite as suite
from registry_fixtures import suite_file as suite_file
from servers import Server, start_server

from mlflow_edit import apply, init
from mlflow_edit.registry.mlflow_registry import MlflowRegistry

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(sys.platform != "linux", reason="servers of Linux"),
]
SHOTS = os.environ.get("MLEDIT_SCREENSHOTS")  # a folder to put pictures of every page in
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def store(chat_folder: Path, suite: Any) -> Iterator[tuple[Server, MlflowRegistry]]:
    """A server whose user is ada, with `m`: version 2 knows the book, 3 and 4 disagree on a film."""
    options = ["--app-name", "mledit"]
    server = start_server(
        scratch() / "acted", database=template_database(), options=options,
        environment={"MLEDIT_AUTHOR": "ada"},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as monkeypatch:
        keep_tracking_uri(monkeypatch, server.uri)
        registry = MlflowRegistry(server.uri)
        rest: dict[str, Any] = {"registry": registry, "author": "Grace <grace@example.org>"}
        init("m", base=str(chat_folder), **rest)
        for parent, prompt, target in ((1, BOOK, "Tokyo"), (2, FILM, "Lima"), (2, FILM, "Cairo")):
            file = scratch() / f"{target}.jsonl"
            file.write_text(f'{{"prompt": "{prompt}", "target": "{target}"}}\n')
            said = f"The answer is {target}"
            apply("m", [file], parent=str(parent), message=said, suite=suite, **rest)
    yield server, registry
    server.kill()


@pytest.fixture
def visit(chromium: Browser, store: tuple[Server, MlflowRegistry]) -> Iterator[Any]:
    """Give a function that opens a page of the server; what browsers complain of fails the test."""
    said: list[str] = []
    contexts = []

    def opened(path: str, **options: Any) -> Page:
        contexts.append(chromium.new_context(**options))
        contexts[-1].set_default_timeout(20_000)
        page = contexts[-1].new_page()
        page.on("console", lambda it: said.append(f"{it.type}: {it.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.goto(f"{store[0].uri}/mledit{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def version(number: int) -> str:
    return f"/version?name=m&version={number}"


def open_part(page: Page, title: str) -> None:
    page.locator("summary", has_text=title).click()


def wait_until_over(page: Page) -> None:
    page.wait_for_selector("main:not(:has([data-working]))", timeout=90_000)


def status(page: Page) -> str:
    """Return what the page says was done."""
    said = page.locator(".done[role=status], .lead[role=status]")
    assert said.count() == 1, page.inner_text("main")
    return said.inner_text()


def last(registry: MlflowRegistry, kind: str) -> Any:
    """Return the last entry of a kind."""
    return [entry for entry in registry.ledger("m").values() if entry.kind == kind][-1]


def approve(page: Page, number: int) -> None:
    open_part(page, "Approve or reject")
    page.get_by_label("Why (optional)").first.fill("Seen <b>myself</b>")
    page.get_by_role("button", name=f"Approve version {number}").click()


def promote(page: Page, number: int, alias: str, gate: str = "") -> None:
    open_part(page, "Promote")
    page.get_by_label("Alias").fill(alias)
    page.get_by_label("Gate").fill(gate)
    page.get_by_role("button", name="Look at the checks first").click()
    page.get_by_role("button", name=f"Promote version {number} to {alias}").click()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_approve_promote_and_roll_back(visit: Any, store: Any, scripts: bool) -> None:
    alias = f"live-{scripts}"
    page = visit(version(2), java_script_enabled=scripts)
    promote(page, 2, alias)
    assert f"{alias} points at version 2; moved by ada." in status(page)
    page = visit(version(3), java_script_enabled=scripts)
    approve(page, 3)
    assert status(page) == "Version 3 was approved by ada: Seen <b>myself</b>"
    promote(page, 3, alias, "min:\n  retention: 0.5\napproved: true\n")
    assert f"{alias} points at version 3, before that at version 2" in status(page)
    open_part(page, "Roll back")
    page.get_by_role("button", name=f"Take {alias} back from version 3").click()
    assert f"Roll {alias} back to version 2?" in page.inner_text("h1")
    page.get_by_role("button", name=f"Roll {alias} back").click()
    assert f"{alias} points at version 2 again" in status(page)
    entries = [e for e in store[1].ledger("m").values() if getattr(e, "alias", alias) == alias]
    assert [e.kind for e in entries][-4:] == ["promotion", "approved", "promotion", "rollback"]
    assert {e.who for e in entries} == {"ada"}


def test_a_gate_that_refuses_offers_no_promotion(visit: Any) -> None:
    page = visit(version(2))
    open_part(page, "Promote")
    page.get_by_label("Alias").fill("never")
    page.get_by_label("Gate").fill("approved: true\nmin:\n  portability: 0.5\n")
    page.get_by_role("button", name="Look at the checks first").click()
    assert page.get_by_text("The gate refuses it").is_visible()
    assert page.get_by_role("button").count() == 0


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_revert(visit: Any, store: Any, scripts: bool) -> None:
    page = visit(version(2), java_script_enabled=scripts)
    open_part(page, "Revert")
    page.get_by_role("link", name="Choose what to take out").click()
    page.get_by_label(BOOK).check()
    page.get_by_role("button", name="See what would change").click()
    assert page.locator("tbody th").all_inner_texts() == [BOOK]
    page.get_by_label("Why").fill(f"Wrong, {scripts}")
    page.get_by_label("Measure the new version").uncheck()
    page.get_by_role("button", name="Revert").click()
    wait_until_over(page)
    assert re.match(r"Version \d is registered", page.inner_text("h1"))
    made = store[1].versions("m")[-1]
    assert (made.author, made.message, made.n_edits) == ("ada", f"Wrong, {scripts}", 0)


def test_merge_with_a_conflict(visit: Any, store: Any) -> None:
    page = visit(version(3))
    open_part(page, "Merge")
    page.get_by_label("Join version 3 with").select_option("4")
    page.get_by_role("button", name="Look for conflicts").click()
    wait_until_over(page)
    assert "1 of 1 conflicts must be resolved" in page.inner_text("main")
    page.get_by_label("theirs: Cairo").check()
    page.get_by_role("button", name="Look again with these choices").click()
    wait_until_over(page)
    assert "Nothing is left to resolve" in page.inner_text("main")
    page.get_by_label("Why").fill("Join both")
    page.get_by_role("button", name="Merge into a new version").click()
    wait_until_over(page)
    assert re.match(r"Version \d is registered", page.inner_text("h1"))
    assert "retention" in page.inner_text("table")
    made = store[1].versions("m")[-1]
    assert (made.author, made.message, made.n_edits) == ("ada", "Join both", 2)
    assert len(made.parents) == 2


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_ask_and_see_why(visit: Any, scripts: bool) -> None:
    page = visit(version(3), java_script_enabled=scripts)
    page.get_by_label("Ask version 3").fill(BOOK)
    page.get_by_role("button", name="Ask", exact=True).click()
    wait_until_over(page)
    assert page.locator("blockquote").all_inner_texts()[1] == "Tokyo"
    assert "version 2, by Grace" in page.inner_text("main")
    page.get_by_label("Ask version 3").fill("What is the north?")
    page.get_by_role("button", name="Ask", exact=True).click()
    wait_until_over(page)
    assert "No edit answers" in page.inner_text("main")


# What every page must be


def opened_actions(page: Page) -> None:
    for summary in page.locator("summary").all():
        summary.click()


def promotion(page: Page) -> None:
    open_part(page, "Promote")
    page.get_by_label("Alias").fill("staging")
    page.get_by_label("Gate").fill("approved: true\nmin:\n  retention: 0.5\n")
    page.get_by_role("button", name="Look at the checks first").click()


def rolling_back(page: Page) -> None:
    promote(page, 2, "shown")
    promote(page, 2, "shown")
    page.goto(page.url.replace("version=2", "version=3"))
    promote(page, 3, "shown")
    open_part(page, "Roll back")
    page.get_by_role("button", name="Take shown back from version 3").click()


def reverting(page: Page) -> None:
    open_part(page, "Revert")
    page.get_by_role("link", name="Choose what to take out").click()


def reverting_after_all(page: Page) -> None:
    reverting(page)
    page.get_by_label("batch").first.check()
    page.get_by_role("button", name="See what would change").click()


def merging(page: Page) -> None:
    page.goto(page.url.replace("version=2", "version=3"))
    open_part(page, "Merge")
    page.get_by_label("Join version 3 with").select_option("4")
    page.get_by_role("button", name="Look for conflicts").click()
    wait_until_over(page)


def merging_resolved(page: Page) -> None:
    merging(page)
    page.get_by_label("ours: Lima").check()
    page.get_by_role("button", name="Look again with these choices").click()
    wait_until_over(page)


def asking(page: Page) -> None:
    page.get_by_label("Ask version 2").fill(BOOK)
    page.get_by_role("button", name="Ask", exact=True).click()
    wait_until_over(page)


def refusing(page: Page) -> None:
    open_part(page, "Promote")
    page.get_by_label("Alias").fill("head")
    page.get_by_role("button", name="Look at the checks first").click()


WAYS: tuple[Callable[[Page], None], ...] = (
    opened_actions, promotion, rolling_back, reverting, reverting_after_all, merging,
    merging_resolved, asking,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_page_keeps_anybody_out(visit: Any, way: Callable[[Page], None]) -> None:
    for scheme in ("light", "dark"):
        page = visit(version(2), color_scheme=scheme)
        way(page)
        assert page.locator("main h1").count() == 1
        for width in (1440, 900, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if SHOTS:
                page.screenshot(path=f"{SHOTS}/{way.__name__}-{width}-{scheme}.png", full_page=True)
            found = Axe().run(page).response
            assert found["passes"], "it looked"
            assert [it["id"] for it in found["violations"] if it["impact"] in GRAVE] == []
