"""The list of edited models."""

import re
from pathlib import Path

from registry_fixtures import root_of

from mlflow_edit.web.access import Permission
from web.conftest import Bench, make_bench


def names(text: str) -> list[str]:
    return re.findall(r'<th scope="row"><a [^>]*>([^<]*)</a>', text)


def test_the_list_shows_head_aliases_edits_and_last_change(bench: Bench) -> None:
    bench.registry.set_alias("m", "production", 1)
    text = bench.get("").text
    assert names(text) == ["m"]
    assert re.search(r"production\s*<b><a [^>]*>1</a></b>", text)
    assert "why" in text
    assert "Ada &lt;ada@example.org&gt;" in text
    assert "2026-01-02 03:04" in text


def test_the_list_hides_what_the_user_may_not_read(bench: Bench, chat_folder: Path) -> None:
    root_of(bench.registry, chat_folder, "secret")
    assert names(bench.get("").text) == ["m", "secret"]
    bench.access.granted["secret"] = {Permission.UPDATE}
    text = bench.get("", q="secret").text
    assert names(text) == []
    assert "No model that you may read" in text


def test_the_list_is_searched_by_name(bench: Bench, chat_folder: Path) -> None:
    root_of(bench.registry, chat_folder, "Support")
    assert names(bench.get("", q="supp").text) == ["Support"]
    assert "&lt;b&gt;" in bench.get("", q="<b>").text


def test_a_long_list_has_pages(bench: Bench) -> None:
    for number in range(60):
        bench.registry.create_model(f"x{number:02}")
    first, second = bench.get("", q="x"), bench.get("", q="x", **{"from": "50"})
    assert (len(re.findall("<tr>", first.text)), len(re.findall("<tr>", second.text))) == (51, 11)
    assert "q=x&amp;from=50" in first.text
    assert "x59" in second.text


def test_links_stand_below_the_static_prefix(chat_folder: Path) -> None:
    text = make_bench(chat_folder, "/ml").get("").text
    found = re.findall(r'(?:href|action|src)="([^"#]*)', text)
    assert len(found) > 4
    assert [one for one in found if one and not one.startswith(("/ml/", "data:"))] == []
