"""The pages that show a model: history, version, differences, decisions, the stored review."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import draft_of, root_of

from mlflow_edit.errors import IntegrityError
from mlflow_edit.review.words import visible
from mlflow_edit.web.headers import STORED_DOCUMENT
from mlflow_edit.web.pages import history as history_page
from mlflow_edit.web.pages import version as version_page
from web.conftest import Bench, make_bench
from web.stories import HOSTILE, hostile, support_bot, thousand_edits

BOT = "support-bot"


@pytest.fixture(scope="module")
def told(chat_folder: Path) -> Bench:
    """Pages over the story of the support bot; tests leave it as it is."""
    bench = make_bench(chat_folder)
    support_bot(bench.registry, chat_folder)
    return bench


def plain(text: str) -> str:
    """Return what a page says, on one line."""
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", "", text, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", body).split()))


def rows(text: str, table: int = 0) -> list[str]:
    """Return the rows of a page's table, each as it reads."""
    body = re.findall(r"<tbody>(.*?)</tbody>", text, flags=re.DOTALL)[table]
    return [plain(row) for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.DOTALL)]


def section(text: str, name: str) -> str:
    found = re.search(rf'<section aria-labelledby="{name}".*?</section>', text, flags=re.DOTALL)
    assert found, name
    return found[0]


# History


def test_history_shows_versions_newest_first(told: Bench) -> None:
    text = told.get("/history", name=BOT).text
    listed = rows(text)
    assert [row.split()[0] for row in listed] == ["6", "5", "4", "3", "2", "1"]
    assert "Join July and the opening hours" in listed[2]
    assert "parents 2 , 3" in listed[2]
    assert listed[5].count("root") == 1
    assert "candidate 60 days" in listed[1]
    assert "production Correct what July brought Ada Example, 2026-07-03 09:02" in listed[4]


def test_history_shows_what_was_decided_and_measured(told: Bench) -> None:
    text = told.get("/history", name=BOT).text
    listed = rows(text)
    assert "approved by Bob Example" in listed[4]
    assert "to production, " in listed[4]
    assert "rejected by Ada Example" in listed[2]
    assert "refused for production" in listed[1]
    assert "to candidate" in listed[1]
    assert "0.667" in listed[4]
    assert re.search(r"4 2 batches( –){6}$", listed[0]), listed[0]
    assert "5 decisions on record" in plain(text)
    assert "The history has forked: versions 6 , 5 have no successor" in plain(text)


def test_history_marks_versions_with_contextual_deltas(
    told: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = told.registry.versions(BOT)
    marked = [replace(one, n_contextual=2 * (one.version == 6)) for one in versions]
    monkeypatch.setattr(told.registry, "versions", lambda name: marked)
    listed = rows(told.get("/history", name=BOT).text)
    assert ["2 contextual" in row for row in listed] == [True] + [False] * 5


def test_several_heads_stand_beside_a_version() -> None:
    assert version_page._forked([5, 6]).endswith("versions 5, 6 stand beside this one")


def test_history_draws_forks_and_merges(told: Bench) -> None:
    text = told.get("/history", name=BOT).text
    drawn = re.findall(r'<td class="graph">(.*?)</td>', text, flags=re.DOTALL)
    assert [one.count("<circle") for one in drawn] == [1] * 6
    assert [i for i, one in enumerate(drawn) if 'class="merge"' in one] == [2]
    above = [len(re.findall(r'y1="0"', one)) for one in drawn]
    below = [len(re.findall(r'y2="100%"', one)) for one in drawn]
    assert above == [0, 1, 2, 2, 2, 1]
    assert below[5] == 0
    assert below[2] == 3, "its two parents, one of which 6 waits for as well"


def test_history_reads_no_artifact(told: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("an artifact was read")

    for reads in ("manifest", "scorecard", "edits", "patch", "batch", "document"):
        monkeypatch.setattr(told.registry, reads, refuse)
    assert told.get("/history", name=BOT).status_code == 200
    assert told.get("/decisions", name=BOT).status_code == 200


def test_a_long_history_has_pages_and_its_lines_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_page, "SHOWN", 3)
    last = bench.root, bench.manifest
    for number in range(6):
        info = bench.registry.publish(
            draft_of("m", bench.manifest.base, parents=[last], message=f"step {number}")
        )
        last = info, bench.registry.manifest(info)
    first, second = bench.get("/history", name="m"), bench.get("/history", name="m", **{"from": 3})
    assert [row.split()[0] for row in rows(first.text)] == ["7", "6", "5"]
    assert [row.split()[0] for row in rows(second.text)] == ["4", "3", "2"]
    drawn = re.findall(r'<td class="graph">(.*?)</td>', second.text, flags=re.DOTALL)
    assert 'y1="0"' in drawn[0], "the line of the page before goes on"
    assert 'href="/mledit/history?name=m&amp;from=3"' in first.text
    assert 'href="/mledit/history?name=m"' in second.text
    for odd in ("x", "-1", "9" * 9, "99"):
        assert rows(bench.get("/history", name="m", **{"from": odd}).text) == rows(first.text)


def test_a_damaged_ledger_does_not_hide_the_versions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(name: str) -> Any:
        raise IntegrityError("entry 1 of the ledger is malformed")

    monkeypatch.setattr(bench.registry, "ledger", damaged)
    assert "entry 1 of the ledger is malformed" in bench.get("/history", name="m").text
    assert "entry 1 of the ledger is malformed" in bench.get("/version", name="m").text
    assert bench.get("/decisions", name="m").status_code == 500


# A version


def test_a_version_says_who_changed_what_and_why(told: Bench) -> None:
    text = told.get("/version", name=BOT, version=5).text
    said = plain(text)
    assert "60 days to return a lamp since August The board decided so on 29 July." in said
    assert "Ada Example <ada@example.org>, 2026-07-06 09:05 UTC." in said
    assert "Parents: 4 . Built on it: none" in said
    assert "Head is version 6" in said
    for address in ("/review", "/manifest"):
        assert f'href="/mledit{address}?name=support-bot&amp;version=5"' in text
    assert 'href="/mledit/diff?name=support-bot&amp;version=5&amp;with=4"' in text
    assert 'href="/mledit/diff?name=support-bot&amp;version=5&amp;with=2"' in text
    assert 'href="/#/models/support-bot/versions/5"' in text


def test_a_version_shows_edits_before_and_after_failures_first(told: Bench) -> None:
    edits = section(told.get("/version", name=BOT, version=2).text, "edits")
    assert "Review: 3 of 3 changes approved by Bob Example" in plain(
        told.get("/version", name=BOT, version=2).text
    )
    listed = rows(edits)
    assert [row.split()[:2] for row in listed][0] == ["world-cup-2022", "failed"]
    assert {row.split()[0] for row in listed} == {"world-cup-2022", "hotline", "refund-days"}
    assert "You have <del>14</del> days to return it." in edits
    assert "You have <ins>30</ins> days to return it." in edits
    assert "note: Policy of 1 July." in plain(edits)
    assert "1 failed , 2 ok ." in plain(edits)


def test_a_version_is_compared_with_its_parent_and_production(told: Bench) -> None:
    table = section(told.get("/version", name=BOT, version=5).text, "scorecard")
    assert "metric version 5 probes parent 4 change production 2 change" in plain(table)
    reliability = next(row for row in rows(table) if row.startswith("reliability"))
    assert reliability.endswith("0.800 5 0.800 same 0.667 +0.133")
    assert "decoding greedy" in plain(table)
    root = section(told.get("/version", name=BOT, version=1).text, "scorecard")
    assert "metric version 1 probes production 2 change" in plain(root)


def test_a_version_shows_batches_exclusions_and_decisions(told: Bench) -> None:
    text = told.get("/version", name=BOT, version=5).text
    batches = [row.split()[1] for row in rows(section(text, "batches"))]
    assert sorted(batches) == ["added", "kept", "kept"]
    assert rows(section(text, "out"))[0].startswith("refund-days")
    decided = rows(section(text, "decided"))
    assert [row.split()[0] for row in decided] == ["promotion", "refusal"]
    assert "locality >= 0.999" in decided[1]
    assert "approved" in decided[1]


def test_a_version_warns_of_forks_and_says_what_was_not_measured(told: Bench) -> None:
    said = plain(told.get("/version", name=BOT).text)
    assert "the history has forked: version 5 stands beside this one" in said
    assert "Nothing was measured." not in said, "its parent was"
    assert "4 not measured" in said
    assert "metric version 6 probes parent, production 2 change" in said


def test_edits_are_searched_and_shown_a_page_at_a_time(
    bench: Bench, chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_page, "SHOWN", 20)
    thousand_edits(bench.registry, chat_folder, "many", n=60)

    def ids(**query: Any) -> list[str]:
        text = bench.get("/version", name="many", **query).text
        return re.findall(r'<tr><th scope="row">(capital-\d+)', text)

    assert ids() == [f"capital-{i:04}" for i in (*range(0, 60, 10), *(1, 2, 3, 4, 5, 6, 7, 8, 9),
                                               *(11, 12, 13, 14, 15))]  # fmt: skip
    assert len(ids(**{"from": 40})) == 20
    assert ids(q="NEWTOWN 17.") == ["capital-0017"]
    assert ids(q="capital-0010") == ids(q="number 10,") == ["capital-0010"]
    assert ids(state="failed") == [f"capital-{i:04}" for i in range(0, 60, 10)]
    assert ids(state="ok", q="capital-001") == [f"capital-{i:04}" for i in range(11, 20)]
    assert ids(q="nothing has this") == []
    more = bench.get("/version", name="many", q="capital", state="ok").text
    assert "q=capital&amp;state=ok&amp;from=20" in more


def test_the_pages_of_actions_are_linked_where_they_exist(bench: Bench) -> None:
    text = bench.get("/version", name="m").text
    for path in ("/ask", "/merge"):
        served = any(rule.rule == f"/mledit{path}" for rule in bench.app.url_map.iter_rules())
        assert (f'href="/mledit{path}?name=m' in text) is served


# Differences


def test_a_difference_shows_batches_edits_and_scores(told: Bench) -> None:
    text = told.get("/diff", name=BOT, version=5, **{"with": 2}).text
    assert "support-bot: version 2 → 5" in plain(text)
    assert len(rows(section(text, "batches"))) == 2
    edits = section(text, "edits")
    assert "2 edits added , 0 edits removed , 1 edit changed ." in plain(text)
    assert "You have <del>30</del> days" in edits
    assert "You have <ins>60</ins> days" in edits
    changed = rows(edits)[0]
    assert changed.startswith("refund-days → refund-days-august ~ changed")
    scores = rows(section(text, "scorecards"))
    assert any(row.startswith("reliability") and row.endswith("+0.133") for row in scores)


def test_a_difference_turned_round_mirrors_it(told: Bench) -> None:
    text = told.get("/diff", name=BOT, version=2, **{"with": 5}).text
    assert "0 edits added , 2 edits removed , 1 edit changed ." in plain(text)
    assert "You have <ins>30</ins> days" in section(text, "edits")


def test_a_difference_is_from_the_first_parent_unless_said(told: Bench) -> None:
    assert "version 2 → 4" in plain(told.get("/diff", name=BOT, version=4).text)
    assert "version 1 → 1" in plain(told.get("/diff", name=BOT, version=1).text)
    assert "They do the same." in told.get("/diff", name=BOT, version=1).text
    by_alias = told.get("/diff", name=BOT, version="candidate", **{"with": "production"}).text
    assert "version 2 → 5" in plain(by_alias)
    assert told.get("/diff", name=BOT, version=4, **{"with": 99}).status_code == 404
    assert told.get("/diff", name=BOT, version=4, **{"with": "other@1"}).status_code == 400


def test_patches_are_read_only_where_scopes_are_asked_for(
    told: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    patch = told.registry.patch
    monkeypatch.setattr(told.registry, "patch", lambda ref: (read.append(ref), patch(ref))[1])
    text = told.get("/diff", name=BOT, version=5, **{"with": 2}).text
    assert read == []
    assert "Compare radii and weights" in text
    text = told.get("/diff", name=BOT, version=5, scopes=1, **{"with": 2}).text
    assert len(read) == 3
    assert "No radius of an edit that both have differs" in text


# Decisions and the stored review


def test_every_decision_is_listed_newest_first(told: Bench) -> None:
    listed = rows(told.get("/decisions", name=BOT).text)
    kinds = [row.split()[0] for row in listed]
    assert kinds == ["promotion", "refusal", "rejected", "promotion", "approved"]
    assert "production none → 2" in listed[3]
    assert "As agreed with legal." in listed[4]


def test_the_stored_review_may_run_but_as_nobody(bench: Bench) -> None:
    answer = bench.get("/review", name="m", version=1)
    assert (
        answer.data
        == b"<!doctype html><title>Stored</title><script>document.title = 'ran'</script>"
    )
    assert answer.mimetype == "text/html"
    assert answer.headers["Content-Security-Policy"] == STORED_DOCUMENT
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_review_that_was_not_stored_is_said_to_be_missing(
    bench: Bench, chat_folder: Path
) -> None:
    root_of(bench.registry, chat_folder, "bare")
    answer = bench.get("/review", name="bare")
    assert answer.status_code == 404
    assert "no review.html was stored with bare@1" in answer.text


# All of them


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/history", {}),
        ("/decisions", {}),
        ("/version", {}),
        ("/version", {"q": HOSTILE[2], "state": HOSTILE[0]}),
        ("/diff", {"with": "1"}),
        ("", {"q": "hostile"}),
    ],
)
def test_hostile_text_is_shown_as_text(
    bench: Bench, chat_folder: Path, path: str, query: dict[str, str]
) -> None:
    hostile(bench.registry, chat_folder)
    text = bench.get(path, name="hostile", **query).text
    parsed = Tags()
    parsed.feed(text)
    assert {tag for tag, _ in parsed.found} & {"img", "iframe", "style"} == set()
    for tag, given in parsed.found:
        assert not [key for key in given if key.startswith("on") or key == "style"], (tag, given)
        assert tag != "script" or str(given["src"]).startswith("/mledit/")
        assert not str(given.get("href", "/")).startswith("javascript")
    assert "\u202e" not in text
    assert str(visible(HOSTILE[1])) in html.unescape(text)


class Tags(HTMLParser):
    """The tags of a page, as a browser reads them, with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_links_stand_below_the_static_prefix(chat_folder: Path) -> None:
    bench = make_bench(chat_folder, "/ml")
    support_bot(bench.registry, chat_folder)
    for path in ("/history", "/decisions", "/version", "/diff"):
        text = bench.get(path, name=BOT, version=5).text
        found = re.findall(r'(?:href|action|src)="([^"#]*)', text)
        assert len(found) > 4
        assert [one for one in found if one and not one.startswith(("/ml/", "data:"))] == [], path
