"""Names of models, and what `NAME@REF` may be."""

from dataclasses import replace

import pytest

from mlflow_edit.errors import InvalidInputError, VersionNotFound
from mlflow_edit.registry.names import VersionRef, model_name, parse_ref
from mlflow_edit.registry.registry import VersionInfo, choose, heads

ROOT = VersionInfo(
    name="m", version=1, digest="ab" + "0" * 62, content_digest="c" * 64, parents=(), author="",
    created_at="", message="", run_id="r", model_id="m-1", n_edits=0, n_batches=0,
)  # fmt: skip
CHILD = replace(
    ROOT, version=2, digest="ab" + "1" * 62, content_digest="d" * 64, parents=(ROOT.digest,),
    aliases=("production", "1234"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name", "ref"),
    [
        ("m", "m", "head"),
        ("m@3", "m", "3"),
        ("m@v3", "m", "3"),
        ("m@head", "m", "head"),
        ("m@production", "m", "production"),
        ("models:/m/3", "m", "3"),
        ("models:/m@production", "m", "production"),
        ("models:/m", "m", "head"),
        ("größe.1_b-c@1", "größe.1_b-c", "1"),
    ],
)
def test_references(text: str, name: str, ref: str) -> None:
    assert parse_ref(text) == VersionRef(name, ref)


@pytest.mark.parametrize(
    "text",
    ["", "@", "@1", "m@", "m@a b", "m@1/2", "m@1\n", "m/3", "models:/m/", "m@@1", "m@é", "a:b"],
)
def test_bad_references(text: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        parse_ref(text)
    assert raised.value.hint


@pytest.mark.parametrize(
    "name", ["a'b", 'a"b', "a%b", "a?b", "a#b", "a&b", "a<b", "a\\b", "\ud800", "."]
)
def test_names_that_a_uri_or_a_query_would_misread(name: str) -> None:
    with pytest.raises(InvalidInputError):
        model_name(name)


@pytest.mark.parametrize(
    ("ref", "version"),
    [("1", 1), ("head", 2), ("production", 2), ("ab00", 1), ("AB11", 2), ("1234", 2), ("dddd", 2)],
)
def test_choosing(ref: str, version: int) -> None:
    assert choose(VersionRef("m", ref), [ROOT, CHILD]).version == version


@pytest.mark.parametrize("ref", ["3", "ab", "abc", "staging", "f" * 64, "abab"])
def test_choosing_what_is_not_there(ref: str) -> None:
    with pytest.raises(VersionNotFound) as raised:
        choose(VersionRef("m", ref), [ROOT, CHILD])
    assert raised.value.hint == "m has versions 1 to 2 and the aliases 1234, production."


def test_an_ambiguous_digest_names_the_candidates() -> None:
    twins = [replace(v, digest="abcd" + v.digest[4:]) for v in (ROOT, CHILD)]
    with pytest.raises(VersionNotFound, match="ambiguous: versions 1, 2"):
        choose(VersionRef("m", "abcd"), twins)


def test_a_content_digest_that_several_versions_share_names_the_newest() -> None:
    again = replace(CHILD, content_digest=ROOT.content_digest)
    assert choose(VersionRef("m", "cccc"), [ROOT, again]) == again


def test_a_number_comes_before_an_alias() -> None:
    assert choose(VersionRef("m", "1"), [ROOT, replace(CHILD, aliases=("1",))]) == ROOT


def test_no_versions() -> None:
    with pytest.raises(VersionNotFound, match="no versions"):
        choose(VersionRef("m", "head"), [])


def test_heads() -> None:
    fork = replace(CHILD, version=3, digest="e" * 64)
    assert heads([ROOT, CHILD]) == [CHILD]
    assert heads([ROOT, CHILD, fork]) == [CHILD, fork]
    assert heads([]) == []
