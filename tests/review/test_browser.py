"""The review page in a real browser: silent, safe, readable without its script, and in bounds."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import Opened
from browsers import chromium as chromium
from playwright.sync_api import Browser, Frame, Locator, Page
from reviews import BATCH, deltas, edit, entry, filled_with, many, result, review, rich

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.results import Fired
from mlflow_edit.core.review import Review
from mlflow_edit.review.page import review_page
from mlflow_edit.review.words import visible

pytestmark = pytest.mark.browser

WIDTHS = (1440, 900, 400)
PAYLOADS = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "</style></title><script>window.pwned=1</script>",
    "--></textarea><script>alert(1)</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><img src=x onerror="window.pwned=1">',
    "'><svg onload='window.pwned=1'>",
    '" autofocus onfocus="window.pwned=1',
    "a onpointerenter=window.pwned=1 tabindex=1",
    "javascript:window.pwned=1",
    "<a href=javascript:alert(1)>a</a>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<meta http-equiv=refresh content=0;url=data:,>",
    "a \u202egnp.exe\u202c \u2066b\u2069 \u200b\ufeff\u2028c",
    "a\x01\x07\x08\x0b\x0c\r\x1b[31m\x7f\x85\x9bz",
)
JUDGED = "main td, main th, main dd, main dt, main p, main blockquote, main h1"


@pytest.fixture
def show(chromium: Browser, tmp_path: Path) -> Iterator[Any]:
    contexts = []

    def open_page(it: Review | str, **options: Any) -> Opened:
        file = tmp_path / f"review-{len(contexts)}.html"
        file.write_text(it if isinstance(it, str) else review_page(it), encoding="utf-8")
        contexts.append(chromium.new_context(**options))
        opened = Opened(contexts[-1].new_page())
        opened.page.goto(file.as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()


def section(page: Page, title: str) -> Locator:
    return page.locator("section", has=page.locator("h2", has_text=re.compile(f"^{title}")))


def rows(part: Locator, column: int) -> list[str]:
    cells = part.locator(f"tbody tr:visible td:nth-child({column})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_opened_from_a_file_it_is_silent_and_fetches_nothing(show: Any) -> None:
    opened = show(rich())
    opened.page.wait_for_load_state("networkidle")
    assert opened.page.locator("input[type=search]").count() == 2, "its script ran"
    assert opened.said == []
    assert opened.asked == [opened.page.url]


def test_in_the_viewer_of_mlflow_it_is_silent_and_fetches_nothing(show: Any) -> None:
    opened = show("<!doctype html><title>viewer</title><body>")
    frame = put_in_viewer(opened.page, review_page(rich()))
    frame.wait_for_selector("input[type=search]")
    opened.page.wait_for_load_state("networkidle")
    assert opened.said == []
    assert opened.asked == [opened.page.url, frame.url]
    frame.locator("input[type=search]").first.fill("1905")
    assert len(rows(frame.locator("section", has_text="Differing words"), 1)) == 1
    frame.get_by_role("link", name="Version").click()
    assert frame.locator("#version h2").is_visible()
    frame.get_by_role("button", name="Copy as text").click()
    assert json.loads(frame.get_by_label("Raw data").input_value())["name"] == "support-bot"
    assert "may not be allowed to download" in frame.locator("#raw").inner_text()


@pytest.mark.parametrize("script", [True, False])
def test_raw_data_are_downloaded_from_a_tab_of_their_own(show: Any, script: bool) -> None:
    it = rich()
    page = show(it, java_script_enabled=script).page
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as JSON").click()
    assert download.value.suggested_filename == f"review-{it.manifest.digest[:12]}.json.gz"
    raw = json.loads(gzip.decompress(Path(download.value.path()).read_bytes()))
    assert raw["schema"] == "mledit.review/1"
    answers = [
        dict(zip(raw["answers"]["columns"], row, strict=True)) for row in raw["answers"]["data"]
    ]
    assert {row["prompt"] for row in answers} == {row.prompt for row in it.results}
    assert raw["comparison"]["verdict"]["gate"]["passed"] is False
    if script:
        assert "may not be allowed" not in page.inner_text("main")


def put_in_viewer(page: Page, html: str) -> Frame:
    """Show a page as MLflow shows an HTML artifact: a blob in a frame that may only run scripts."""
    page.evaluate(
        """html => {
            const frame = document.createElement("iframe");
            frame.sandbox = "allow-scripts";
            frame.src = URL.createObjectURL(new Blob([html], { type: "text/html" }));
            document.body.append(frame);
            return new Promise((loaded) => { frame.onload = loaded; }).then(() => null);
        }""",
        html,
    )
    return page.frames[1]


@pytest.mark.parametrize("csp", [True, False], ids=["policy", "no-policy"])
def test_hostile_text_runs_nothing_and_is_shown_as_text(show: Any, csp: bool) -> None:
    plain = text_of(show(filled_with("TEXT", "WORD")).page)
    assert plain.count("TEXT") > 50
    assert plain.count("WORD") == 3
    for payload in PAYLOADS:
        word = re.sub(r"[^!-~]", "", payload) + "."
        opened = show(filled_with(payload, word), bypass_csp=not csp)
        page = opened.page
        assert text_of(page) == plain.replace("TEXT", str(visible(payload))).replace("WORD", word)
        use_everything(page)
        assert page.evaluate("window.pwned") is None, payload
        assert opened.said == []
        assert opened.asked == [page.url]


def text_of(page: Page) -> str:
    """Return the page's title and text, but for digests and sizes, which depend on the text."""
    text = page.evaluate("document.title + document.querySelector('main').textContent")
    return re.sub(r"[0-9a-f]{64}|[0-9a-f]{12}|[0-9]+ bytes", "…", text)


def use_everything(page: Page) -> None:
    """Point at, focus and click all that the page holds."""
    page.evaluate(
        """() => {
            for (const node of document.querySelectorAll("main *"))
                for (const name of ["pointerenter", "mouseover", "focus", "click"])
                    node.dispatchEvent(new Event(name));
        }"""
    )


@pytest.mark.parametrize("width", [1440, 900])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(show: Any, width: int, scheme: str) -> None:
    for it in (rich(), deltas(), filled_with("<b>text"), review(), many(120)):
        page = show(it, viewport={"width": width, "height": 900}, color_scheme=scheme).page
        for summary in page.locator("summary").all():
            summary.click()
        found = Axe().run(page).response
        assert found["passes"], "it looked"
        assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []


def test_axe_would_find_what_keeps_people_out(show: Any) -> None:
    html = review_page(rich()).replace("<main>", "<main><p><input><button></button>")
    found = Axe().run(show(html).page).response
    assert {"label", "button-name"} <= {one["id"] for one in found["violations"]}


def test_of_a_long_list_a_part_is_shown_and_all_of_it_is_searched(show: Any) -> None:
    page = show(many(250)).page
    part = section(page, "Edits: before and after")
    assert len(rows(part, 1)) == 100
    assert part.locator(".more output").inner_text() == "100 of 250 shown"
    part.get_by_label("Search").fill("year 2149")
    assert [text.splitlines()[0] for text in rows(part, 2)] == [edit(249).prompt]
    part.get_by_label("Search").fill("")
    part.get_by_role("button", name="Prompt").click()
    part.get_by_role("button", name="Prompt").click()
    assert rows(part, 2)[0] == edit(249).prompt, "all of it is sorted"
    part.get_by_role("button", name="Show more").click()
    assert len(rows(part, 1)) == 200
    part.get_by_role("button", name="Show all").click()
    assert len(rows(part, 1)) == 250
    assert not part.locator(".more").is_visible()
    plain = show(many(250), java_script_enabled=False).page
    assert len(rows(section(plain, "Edits: before and after"), 1)) == 250


def test_near_conflicts_are_drawn_and_listed(show: Any) -> None:
    page = show(rich()).page
    part = section(page, "Scope")
    assert part.locator("path.links.contradiction").get_attribute("d").count("L") == 1
    listed = part.locator("table.conflicts tbody tr")
    assert listed.count() == 2
    assert edit(12).prompt in listed.first.inner_text()


def test_entries_by_meaning_light_up_where_they_are_drawn(show: Any) -> None:
    entries = tuple(entry(i, scope="encoder", nearest_match=0.01 * i) for i in range(9))
    part = section(show(review(entries=entries)).page, "Scope")
    assert part.locator("circle").count() == 9
    part.locator("circle").nth(4).hover()
    assert entries[4].edit_id in part.locator("tr.on").inner_text()


def test_the_policy_alone_stops_what_would_get_in(show: Any) -> None:
    html = review_page(rich())
    hole = (
        "<main><script>window.pwned=1</script><img src=/x.png onerror=window.pwned=1>"
        "<iframe src=javascript:parent.pwned=1></iframe>"
    )
    opened = show(html.replace("<main>", hole))
    use_everything(opened.page)
    assert opened.page.evaluate("window.pwned") is None
    refused = " ".join(opened.said)
    assert "script-src" in refused, "the script and the handler"
    assert "img-src" in refused, "the picture"
    assert opened.page.locator("input[type=search]").count() == 2, "its own script ran"


@pytest.mark.parametrize("text", ["x" * 50_000, "<b>" * 17_000, "word " * 10_000])
def test_endless_text_is_cut_and_stays_in_bounds(show: Any, text: str) -> None:
    opened = show(filled_with(text))
    assert_in_bounds(opened.page)
    assert text[:1_000] in section(opened.page, "Taken out").locator("td").nth(1).inner_text()
    assert re.search(r"… \(\+4\d,\d{3} characters\)", opened.page.inner_text("main"))
    assert opened.said == []


def test_all_can_be_read_without_the_script(show: Any) -> None:
    it = rich()
    page = show(it, java_script_enabled=False).page
    assert page.locator("input, button").count() == 0
    page.locator("summary").click()
    text = " ".join(page.inner_text("main").split())
    said = [it.name, it.editor, it.manifest.author, it.manifest.digest, *it.manifest.parents]
    said += it.manifest.message.split("\n\n")
    for one in (*it.edits, *it.taken, *it.returned):
        said += [one.id, one.prompt, one.target, *filter(None, (one.note, one.source, one.author))]
    for lost in it.unsolved:
        said += [lost.edit_id, lost.prompt, lost.target]
    for row in it.results:
        said += [] if row.ok else [row.prompt, row.after]
    said += [part.edit_id for part in it.scopes[0].entries[:10]]
    said += [it.scopes[0].entries[i].prompt for i in (12, 13)]  # of near conflicts
    said += [*it.warnings, "Does not meet the gate of production", "locality ≥ 0.95", "0.970"]
    assert it.provenance is not None
    said += [part for part in it.provenance.model_dump().values() if isinstance(part, str)]
    said += [str(part) for part in (*it.params, *it.params.values())]
    said += [str(part) for part in it.scorecard.protocol.values()]
    said += ["0.910", "0.013", "−0.100", "changed after the commit", "e-gone"]
    assert [part for part in said if " ".join(part.split()) not in text] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_search_and_filter_by_mouse(show: Any, width: int) -> None:
    page = show(rich(), viewport={"width": width, "height": 900}).page
    part = section(page, "Edits: before and after")
    search, only = part.get_by_label("Search"), part.get_by_label("only what failed")
    assert len(rows(part, 1)) == 11
    only.click()
    assert [text.split()[0] for text in rows(part, 1)] == ["failed"]
    assert part.locator("output").inner_text() == "1 of 11"
    only.click()
    assert len(rows(part, 1)) == 11
    assert part.locator("output").inner_text() == ""
    search.click()
    search.fill("FIFA 1905")
    assert [text.splitlines()[0] for text in rows(part, 2)] == [edit(5).prompt]
    search.fill("nothing says this")
    assert rows(part, 1) == []
    assert len(rows(section(page, "Scope"), 1)) == 12, "each list has its own search"


def test_search_filter_and_sort_by_keyboard(show: Any) -> None:
    page = show(rich()).page
    part = section(page, "Edits: before and after")
    page.locator("summary").focus()
    reach(page, part.get_by_label("Search"))
    page.keyboard.type("refund")
    assert [text.split()[-1] for text in rows(part, 1)] == ["refund-policy"]
    for _ in "refund":
        page.keyboard.press("Backspace")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert len(rows(part, 1)) == 1
    page.keyboard.press("Space")
    head = part.get_by_role("columnheader", name="Prompt")
    reach(page, head.locator("button"))
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert rows(part, 2) == sorted(rows(part, 2))
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert rows(part, 2) == sorted(rows(part, 2), reverse=True)
    reach(page, part.get_by_role("columnheader", name="Edit").locator("button"), back=True)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") is None


def reach(page: Page, target: Locator, *, back: bool = False) -> None:
    """Press Tab until the target has the focus."""
    for _ in range(12):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    pytest.fail("the keyboard does not get there")


def test_sorts_how_far_edits_fired_and_puts_those_that_did_not_last(show: Any) -> None:
    distances = (0.5, None, 0.9, 0.1, None, 1e-05, 0.3)
    edits = tuple(edit(i) for i in range(len(distances)))
    results = tuple(
        result(
            it, fired=distance and Fired(edit_id=it.id, batch=BATCH, distance=distance, radius=1)
        )
        for it, distance in zip(edits, distances, strict=True)
    )
    part = section(show(review(edits=edits, results=results)).page, "Edits: before and after")
    part.get_by_role("button", name="Fired").click()
    ordered = ["1e-05 of 1", "0.1 of 1", "0.3 of 1", "0.5 of 1", "0.9 of 1"]
    assert rows(part, 5) == [*ordered, "none", "none"]
    part.get_by_role("button", name="Fired").click()
    assert rows(part, 5) == ["none", "none", *ordered[::-1]]


def test_sorts_numbers_as_numbers(show: Any) -> None:
    places = [{"effective_radius": float(r), "radius": float(r)} for r in (9, 100, 10, 0.5)]
    it = review(entries=tuple(entry(i, **place) for i, place in enumerate(places)))
    part = section(show(it).page, "Scope")
    part.get_by_role("button", name="Radius").click()
    assert rows(part, 2) == ["0.5", "9", "10", "100"]


def test_entries_light_up_with_their_circles(show: Any) -> None:
    page = show(review(entries=tuple(entry(i) for i in range(40)))).page
    part = section(page, "Scope")
    part.get_by_role("button", name="Entry").click()
    name = rows(part, 1)[-1].split()[0]
    row = part.locator("tr", has=page.locator("td:first-child", has_text=name))
    place = [edit(i).id for i in range(40)].index(name)
    circle = part.locator("circle").nth(place)
    assert name in circle.locator("title").inner_html()
    row.locator("td").first.hover()
    assert (row.get_attribute("class"), circle.get_attribute("class")) == ("on", "old on")
    page.mouse.move(0, 0)
    assert part.locator(".on").count() == 0
    part.locator("circle").evaluate_all("nodes => nodes.forEach(it => it.setAttribute('r', 4))")
    part.locator(".scroll").evaluate("node => node.scrollTo(0, 0)")
    circle.hover()
    assert (row.get_attribute("class"), circle.get_attribute("class")) == ("on", "old on")
    assert not in_view(row)
    circle.click()
    assert in_view(row)


def in_view(row: Locator) -> bool:
    return row.evaluate(
        """row => {
            const [inner, outer] = [row, row.closest(".scroll")].map(it => it.getBoundingClientRect());
            return inner.top >= outer.top && inner.bottom <= outer.bottom + 1;
        }"""
    )


def test_nothing_is_wider_than_the_window_in_light_or_dark(show: Any) -> None:
    page = show(rich()).page
    page.locator("summary").click()
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert_in_bounds(page)
        assert page.evaluate(CONTRAST) >= 4.5
    assert grounds[0] == "rgb(255, 255, 255)"
    assert grounds[1] != grounds[0]


CONTRAST = f"""() => {{
    const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
    const light = (colour) => {{
        const [r, g, b] = parts(colour).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }};
    const ground = (node) => {{
        const colour = getComputedStyle(node).backgroundColor;
        return parts(colour)[3] === 0 ? ground(node.parentElement) : colour;
    }};
    const ratios = [...document.querySelectorAll("{JUDGED}, main small, main ins, main del, main b")]
        .map((node) => [light(getComputedStyle(node).color), light(ground(node))])
        .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    return Math.min(...ratios);
}}"""


def assert_in_bounds(page: Page) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        document = page.evaluate("document.documentElement.scrollWidth")
        assert document <= width, f"the page is {document} wide in a window of {width}"
        spilling = page.locator(JUDGED).evaluate_all(
            "nodes => nodes.filter(it => it.scrollWidth > it.clientWidth + 1)"
            ".map(it => it.textContent.trim().slice(0, 40))"
        )
        assert spilling == [], f"text leaves its box in a window of {width}"


def test_what_was_taken_out_and_what_returned_is_shown(show: Any) -> None:
    gone = (edit(1), Edit(id="passage", prompt="Recite it.", target="Line one.\nLine two."))
    back = (edit(3, target="The Netherlands"),)
    page = show(review(verb="revert", taken=gone, returned=back)).page
    for title, edits in (("Taken out", gone), ("In force again", back)):
        part = section(page, title)
        assert [rows(part, 1), rows(part, 2), rows(part, 3)] == [
            [it.id for it in edits],
            [it.prompt for it in edits],
            [it.target for it in edits],
        ]
    plain = show(review(verb="revert")).page.inner_text("main")
    assert "Taken out" not in plain
    assert "In force again" not in plain


def test_a_long_list_of_what_was_taken_out_is_cut_and_says_so(show: Any) -> None:
    it = review(verb="revert", taken=tuple(edit(i) for i in range(203)))
    part = section(show(it).page, "Taken out")
    assert len(rows(part, 1)) == 100
    part.get_by_role("button", name="Show all").click()
    assert len(rows(part, 1)) == 200
    assert "The first 200 of 203 are listed" in part.inner_text()
