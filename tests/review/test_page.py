"""The review page: small, complete, honest, and safe against what an edit says."""

import base64
import gzip
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from reviews import (
    BATCH,
    HOSTILE,
    OLD,
    conflict,
    deltas,
    edit,
    entry,
    filled_with,
    held,
    manifest,
    many,
    result,
    review,
    scope,
)

from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.gate import Gate
from mlflow_edit.core.manifest import BatchRef, Exclusion
from mlflow_edit.core.results import Fired, ProbeResult, Provenance, Unsolved
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.review.charts import BAR_WIDTH, bar
from mlflow_edit.review.page import review_page
from mlflow_edit.review.rows import PROBES_SHOWN
from mlflow_edit.review.scatter import CIRCLES_SHOWN, MARGIN, SIZE, scatter
from mlflow_edit.review.summary import Other, one_sentence, score_lines, verdict_line
from mlflow_edit.review.weights import weights_part
from mlflow_edit.review.words import changed_words, clip, visible


class Page(HTMLParser):
    """What a browser would see: tags, their attributes, text outside script and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._raw = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._raw = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.text += data


def sections(html: str) -> list[str]:
    return [unescape(title) for title in re.findall(r"<h[23]>([^<]+)", html)]


def rows_of(html: str, heading: str) -> list[str]:
    table = html[html.index(heading) :].split("<tbody>", 1)[1].split("</table>", 1)[0]
    return table.split("<tr")[1:]


def test_says_in_one_sentence_what_came_of_the_edits() -> None:
    edits = [edit(i) for i in range(6)]
    rows = [result(it) for it in edits] + [
        result(edits[0], "locality", prompt=f"q{i}", ok=i != 3) for i in range(40)
    ]
    lost = Unsolved(edit_id="e-lost", prompt="p", target="t", loss=1.5, steps=100)
    it = review(edits=tuple(edits), results=tuple(rows), unsolved=(lost,), editor="grace")
    assert one_sentence(it) == (
        "6 edits by grace on base 1a2b3c: 6 of 6 answered as asked; "
        "1 of 40 unrelated answers changed; 1 edit could not be learned."
    )
    assert one_sentence(it) in Page(review_page(it)).text


def test_sentence_of_a_version_that_learned_nothing_new() -> None:
    ref = BatchRef(digest=BATCH, editor="grace", kind="codebook", n_edits=5, bytes=9, run_id="r")
    left_out = Exclusion(batch=BATCH, edit="e-1", reason="reverted")
    it = review(manifest=manifest(batches=(ref,), exclusions=(left_out,)))
    assert one_sentence(it) == (
        "apply: no new edits; 1 batch with 4 edits on base 1a2b3c: nothing was measured."
    )
    assert "Edits left out" in review_page(it)


def test_unrelated_answers_are_never_claimed_unchanged_when_none_were_asked() -> None:
    it = edit(1)
    said = one_sentence(review(edits=(it,), results=(result(it),)))
    assert "no unrelated questions were asked" in said


def test_scorecard_stands_beside_its_parent() -> None:
    protocol = {"decision": "free greedy generation"}
    card = Scorecard(
        reliability=0.975,
        locality=0.9,
        perplexity_ratio=1.02,
        n_probes={"reliability": 40},
        protocol=protocol,
    )
    parent = Scorecard(reliability=0.95, locality=1.0, perplexity_ratio=1.0, protocol=protocol)
    lines = {
        line.name: line
        for line in score_lines(review(scorecard=card, parent=parent), headline=True)
    }
    up, down, worse = lines["reliability"], lines["locality"], lines["perplexity ratio"]
    assert (up.value, up.count, up.parent) == (
        "0.975",
        "39 of 40",
        Other("0.950", "+0.025", "good"),
    )
    assert (down.parent.verdict, worse.parent.verdict) == ("bad", "bad")
    assert (down.parent.change, worse.bar) == ("−0.100", None)
    assert lines["portability"].value == "no probes"
    assert lines["portability"].bar is None


def test_zero_is_a_number_and_null_is_not() -> None:
    html = review_page(review(scorecard=Scorecard(reliability=0.0)))
    text = Page(html).text
    assert "0.000" in text
    assert text.count("no probes") == 6


def test_warns_where_the_parent_was_measured_by_another_protocol() -> None:
    old, new = (Scorecard(protocol={"max_new_tokens": n}) for n in (16, 32))
    assert "another protocol (max_new_tokens)" in review_page(review(scorecard=new, parent=old))
    assert "another protocol" not in review_page(review(scorecard=new, parent=new))


def test_edits_show_before_after_target_and_what_fired() -> None:
    good, bad = edit(1), edit(2, target="Uruguay")
    stolen = Fired(edit_id=good.id, batch=BATCH, distance=0.71, radius=0.93)
    rows = (result(good), result(bad, after="Argentina.", ok=False, fired=stolen))
    first, second = rows_of(
        review_page(review(edits=(good, bad), results=rows)), "Edits: before and after"
    )
    assert first.startswith(" class=bad")
    assert f"<b>{good.id}</b> 0.71 of 0.93" in first, "another edit fired: it must be named"
    assert "<b>failed</b>" in first
    assert "Uruguay" in first
    assert "<b>ok</b>" in second
    assert "<ins>Argentina.</ins>" in second
    assert f"<del>{OLD}</del>" in second
    assert "0.123 of 0.982" in second
    assert f"<b>{good.id}</b>" not in second


def test_an_edit_that_was_not_measured_is_not_called_ok() -> None:
    (row,) = rows_of(review_page(review(edits=(edit(1),))), "Edits: before and after")
    assert "not measured" in row
    assert "ok" not in row


def test_lists_what_moved_and_only_that() -> None:
    it = edit(1)
    rows = (
        result(it),
        result(it, "locality", prompt="moved?", ok=False),
        result(it, "locality", prompt="kept?", ok=True),
        result(it, "generality", prompt="rephrased?", ok=False),
        ProbeResult(
            metric="retention",
            edit_id="e-earlier",
            prompt="earlier?",
            before="a",
            after="b",
            ok=False,
        ),
        ProbeResult(
            metric="test_retention", prompt="wrong before too?", before="a", after="a", ok=False
        ),
        ProbeResult(metric="test_retention", prompt="lost?", before="a", after="b", ok=False),
    )
    html = review_page(review(edits=(it,), results=rows))
    text = Page(html).text
    titles = [title.strip() for title in sections(html)]
    moved = titles[titles.index("What else moved") + 1 :][:4]
    assert moved == [
        "Unrelated answers that changed",
        "New wrong answers on the base model's test data",
        "Earlier edits that no longer hold",
        "Rephrases that failed",
    ]
    for prompt in ("moved?", "rephrased?", "earlier?", "lost?"):
        assert prompt in text
    for prompt in ("kept?", "wrong before too?"):
        assert prompt not in text


def test_long_lists_are_cut_and_say_so() -> None:
    it = edit(1)
    rows = tuple(result(it, "locality", prompt=f"q{i}.", ok=False) for i in range(PROBES_SHOWN + 7))
    html = review_page(review(edits=(it,), results=rows))
    assert f"q{PROBES_SHOWN - 1}." in html
    assert f"q{PROBES_SHOWN}." not in html
    assert f"{PROBES_SHOWN} of {PROBES_SHOWN + 7} are listed" in html


def test_sections_come_in_the_order_a_reviewer_needs_them() -> None:
    lost = Unsolved(
        edit_id="e-lost", prompt="Recite section 4.2", target="t", loss=1.834, steps=100
    )
    html = review_page(many(3).model_copy(update={"unsolved": (lost,)}))
    order = [
        "Scorecard",
        "Edits: before and after",
        "What else moved",
        "Edits that could not be learned",
        "Scope",
        "Provenance",
        "Protocol",
        "Version",
    ]
    places = [html.index(f"<h2>{title}") for title in order]
    assert places == sorted(places)
    assert "Recite section 4.2" in html


def test_provenance_and_digests_are_whole() -> None:
    source = Provenance(path="edits/july.jsonl", commit="9c1e5d0", author="Jana", dirty=True)
    it = review(provenance=source, manifest=manifest(parents=(json_digest("parent"),)))
    text = Page(review_page(it)).text
    for expected in (
        "edits/july.jsonl",
        "9c1e5d0",
        "Jana",
        "changed after the commit",
        it.manifest.digest,
        it.manifest.content_digest,
        it.manifest.base.digest,
        json_digest("parent"),
    ):
        assert expected in text
    assert "changed after the commit" not in review_page(review(provenance=Provenance(dirty=False)))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_nothing_that_an_edit_says_becomes_markup(text: str) -> None:
    plain, hostile = (Page(review_page(filled_with(value))) for value in ("plain", text))
    assert hostile.tags == plain.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    values = [v for (name, v) in hostile.attributes if name != "content"]
    assert not any(v and ("alert" in v or "evil" in v) for v in values)


def test_huge_texts_do_not_make_a_huge_page() -> None:
    assert len(review_page(filled_with("word " * 20_000)).encode()) < 125_000


def test_invisible_and_reordering_characters_are_written_out() -> None:
    html = review_page(filled_with(HOSTILE[-1]))
    for char in "\u202e\u202c\u200b\u2066\ufeff\u2028\U000e0041":
        assert char not in html
        assert f"‹U+{ord(char):04X}›" in html
    assert "مرحبا שלום" in html


def test_joiners_that_scripts_need_stay() -> None:
    assert visible("می‌خواهم 👩‍💻") == "می‌خواهم 👩‍💻"
    assert visible("pay\u200dpal") == "pay‹U+200D›pal"
    assert visible("bad \udc80 byte") == "bad ‹U+DC80› byte"


def test_page_is_self_contained_and_allows_no_script_but_its_own() -> None:
    html = review_page(many(3))
    page = Page(html)
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "srcset", "action", "data", "style", "background"}
    links = {str(value)[:29] for name, value in page.attributes if name == "href"}
    parts = {f"#{name}" for name in ("scorecard", "edits", "moved", "scope", "provenance")}
    assert links == {*parts, "#version", "#raw", "data:application/gzip;base64,"}
    assert not [name for name in names if name.startswith("on")]
    assert not {"link", "iframe", "base", "form", "img"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert page.tags.count("style") == 1
    assert "url(" not in html
    assert "@import" not in html
    policy = re.search(r'Policy content="([^"]+)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_policy_names_the_very_style_and_script_of_the_page() -> None:
    html = review_page(review())
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in html


@pytest.mark.parametrize(("n", "most"), [(0, 20_000), (100, 80_000), (1_000, 1_000_000)])
def test_page_stays_small(n: int, most: int) -> None:
    assert len(review_page(many(n)).encode()) < most


def test_page_is_the_same_each_time() -> None:
    assert review_page(many(5)) == review_page(many(5))


def test_marks_only_the_words_that_differ() -> None:
    before, after = changed_words("open for 60 days in all", "open for 30 days in all", 500)
    assert [span.text for span in before if span.changed] == ["60"]
    assert [span.text for span in after if span.changed] == ["30"]
    assert "".join(span.text for span in after) == "open for 30 days in all"


def test_a_difference_far_into_a_passage_is_still_shown() -> None:
    same = "word " * 2_000
    before, after = changed_words(same + "old end", same + "new end", 300)
    assert [span.text for span in before if span.changed] == ["old"]
    assert [span.text for span in after if span.changed] == ["new"]


def test_clip_says_how_much_is_left_out() -> None:
    assert clip("a" * 1_300, 100) == "a" * 100 + "… (+1,200 characters)"
    assert clip("short", 100) == "short"


def test_scatter_draws_radii_in_the_scale_of_the_keys() -> None:
    entries = [
        entry(0, x=0.0, y=0.0, effective_radius=1.0),
        entry(1, x=4.0, y=0.0, effective_radius=0.5),
    ]
    drawn = scatter(scope(*entries), new={entries[0].edit_id}, bad={entries[1].edit_id})
    assert drawn is not None
    first, second = drawn.marks
    assert first is not None
    assert second is not None
    scale = (SIZE - 2 * MARGIN) / 5.5
    assert second.x - first.x == pytest.approx(4 * scale, abs=1)
    assert (first.radius, second.radius) == (round(scale), round(scale / 2))
    assert (first.group, second.group) == ("new", "bad")
    for mark in (first, second):
        assert mark.radius <= mark.x <= SIZE - mark.radius
        assert mark.radius <= mark.y <= drawn.height - mark.radius


def test_scatter_above_300_entries_draws_points_only() -> None:
    many_entries = [entry(i) for i in range(CIRCLES_SHOWN + 1)]
    html = review_page(review(entries=tuple(many_entries)))
    assert "<circle" not in html
    assert "radii are left out" in html
    assert html.count("h0") >= CIRCLES_SHOWN + 1
    assert "<circle" in review_page(review(entries=tuple(many_entries[:-1])))


def test_scatter_survives_entries_with_no_place_and_one_place() -> None:
    nowhere = entry(0, x=float("nan"), effective_radius=float("inf"))
    assert scatter(scope(nowhere), new=set(), bad=set()) is None
    alone = entry(1, x=2.0, y=2.0, effective_radius=0.0)
    drawn = scatter(scope(nowhere, alone), new=set(), bad=set())
    assert drawn is not None
    assert drawn.marks[0] is None
    html = review_page(review(entries=(nowhere, alone)))
    drawing = html[html.index("<svg viewBox") : html.index("</svg>")]
    assert "nan" not in drawing
    assert drawing.count("<circle") == 2, "the table's rows find their circle by its place"
    assert "∞" in html


def test_drawing_says_that_it_is_a_projection() -> None:
    assert "projection" in Page(review_page(review(entries=(entry(1),)))).text


def test_near_conflicts_are_lines_between_their_entries() -> None:
    entries = (entry(0, x=0.0, y=0.0), entry(1, x=4.0, y=0.0), entry(2, x=float("nan")))
    met = (conflict(0, 1), conflict(1, 2, kind="steal"))
    drawn = scatter(scope(*entries, conflicts=met), new=set(), bad=set())
    assert drawn is not None
    first, second = drawn.marks[:2]
    assert first is not None
    assert second is not None
    assert drawn.links == {"contradiction": f"M{first.x} {first.y}L{second.x} {second.y}"}
    text = Page(review_page(review(entries=entries, conflicts=met))).text
    assert "contradiction" in text
    assert "steal" in text, "what cannot be drawn is listed all the same"


def test_says_what_the_gate_says() -> None:
    card = Scorecard(retention=0.8, locality=1.0)
    gate = Gate(min={"retention": 0.9, "locality": 0.9})
    low = verdict_line(held(gate, card, "production"))
    assert low is not None
    assert low.said == "Does not meet the gate of production: 1 of 2 checks fails"
    assert [check.name for check in low.checks] == ["retention >= 0.9", "locality >= 0.9"]
    met = verdict_line(held(Gate(min={"locality": 0.9}), card))
    assert met is not None
    assert (met.said, met.passed) == ("Meets the default gate", True)
    waits = verdict_line(held(Gate(min={"locality": 0.9}, approved=True), card, "production"))
    assert waits is not None
    assert waits.passed
    assert waits.said == "Meets the gate of production, but waits for a reviewer's approval"
    html = review_page(review(verdict=held(gate, card, "production")))
    assert html.index(low.said) < html.index("<h2>Scorecard")
    assert "not met" in html
    assert "<h2>Meets" not in review_page(review())


def test_scorecard_stands_beside_production() -> None:
    card, before = Scorecard(retention=0.9), Scorecard(retention=0.95)
    it = review(scorecard=card, production=before)
    line = next(one for one in score_lines(it, headline=True) if one.name == "retention")
    assert line.production == Other("0.950", "−0.050", "bad")
    assert line.bar is not None
    assert line.bar.production == round(0.95 * BAR_WIDTH, 1)
    text = Page(review_page(it)).text
    assert "Production @2" in text
    assert "Parent @" not in text


def test_weights_are_listed_with_their_share_and_where_they_meet() -> None:
    it = deltas()
    part = weights_part(it)
    assert part is not None
    assert [delta.new for delta in part.parts] == [True, False, False]
    assert part.largest is not None
    assert part.largest.share == pytest.approx(0.9 / 42)
    widths = [line.bar.width for line in part.parts[1].lines if line.bar]
    assert widths == [BAR_WIDTH], "bars are in the scale of the largest"
    assert part.blocks is not None
    assert (part.blocks.first, part.blocks.last) == (4, 8)
    text = Page(review_page(it)).text
    for said in ("rank 4", "1,200 elements", "2.14 %", "unknown", "0.620", "2 of 3 pairs"):
        assert said in text
    assert "learned without" in text
    assert "Weights" not in sections(review_page(review()))


def test_raw_data_are_inside_unless_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    it = edit(1)
    rows = (result(it), result(it, "locality", prompt="kept?", before="a", after="a", fired=None))
    of = review(edits=(it,), results=rows)
    html = review_page(of)
    packed = re.search(r"data:application/gzip;base64,([^\"]+)", html)
    assert packed is not None
    raw = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    assert [row[2] for row in raw["answers"]["data"]] == [it.prompt], "what is as it was is not"
    monkeypatch.setattr("mlflow_edit.review.raw.MOST", 10)
    html = review_page(of)
    assert "data:application" not in html
    assert "results.json" in html


def test_bar_is_as_long_as_the_share() -> None:
    half = bar(0.5, 1.0)
    assert half is not None
    assert (half.width, half.parent) == (BAR_WIDTH / 2, BAR_WIDTH)
    assert bar(None, 0.5) is None
    assert bar(1.2, None) is None
