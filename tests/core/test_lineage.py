"""Ancestors, merge bases, ranges and drawings of the graph of versions."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mlflow_edit.core.lineage import Lineage, graph, rows

FORK = {"a": (), "b": ("a",), "c": ("a",), "m": ("b", "c"), "x": ("m",)}
CRISS_CROSS = {"a": (), "b": ("a",), "c": ("a",), "m": ("b", "c"), "n": ("c", "b")}


@st.composite
def histories(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for i in range(draw(st.integers(1, 12))):
        known = list(found)
        parents = draw(st.lists(st.sampled_from(known), max_size=3, unique=True)) if known else []
        found[f"v{i}"] = tuple(parents)
    return found


def test_ancestors_hold_the_version_itself() -> None:
    assert Lineage(FORK).ancestors("m") == {"a", "b", "c", "m"}
    assert Lineage(FORK).ancestors("gone") == frozenset()
    assert Lineage(FORK).contains("x", "c")
    assert not Lineage(FORK).contains("b", "c")


@pytest.mark.parametrize(
    ("ours", "theirs", "bases"),
    [("b", "c", ["a"]), ("x", "b", ["b"]), ("x", "x", ["x"]), ("a", "x", ["a"])],
)
def test_merge_bases(ours: str, theirs: str, bases: list[str]) -> None:
    assert Lineage(FORK).merge_bases(ours, theirs) == bases


def test_criss_cross_has_two_merge_bases_and_strangers_none() -> None:
    assert Lineage(CRISS_CROSS).merge_bases("m", "n") == ["b", "c"]
    assert Lineage({"a": (), "b": ()}).merge_bases("a", "b") == []


def test_between_is_in_order_of_registration() -> None:
    assert Lineage(FORK).between("b", "x") == ["c", "m", "x"]
    assert Lineage(FORK).between("x", "b") == []


def test_unknown_parents_are_named() -> None:
    assert Lineage({"a": ("gone",), "b": ("a",)}).unknown_parents() == [("a", "gone")]


@given(histories())
def test_merge_bases_are_the_best_common_ancestors(history: dict[str, tuple[str, ...]]) -> None:
    lineage = Lineage(history)
    for ours in history:
        for theirs in history:
            common = lineage.ancestors(ours) & lineage.ancestors(theirs)
            best = {
                c for c in common
                if not any(c != d and c in lineage.ancestors(d) for d in common)
            }  # fmt: skip
            assert set(lineage.merge_bases(ours, theirs)) == best


def drawing(history: dict[str, tuple[str, ...]]) -> str:
    newest_first = dict(reversed(history.items()))
    return "\n".join(f"{row} {digest or ''}".rstrip() for row, digest in graph(newest_first))


def test_a_fork_and_a_merge_are_drawn_as_git_draws_them() -> None:
    assert drawing(FORK).splitlines() == ["* x", "* m", "|\\", "| * c", "* | b", "|/", "* a"]


@given(histories())
def test_every_version_is_drawn_once_and_lines_end_in_its_parents(
    history: dict[str, tuple[str, ...]],
) -> None:
    rows = list(graph(dict(reversed(history.items()))))
    assert [digest for _, digest in rows if digest] == list(reversed(history))
    assert all(row.count("*") == (digest is not None) for row, digest in rows)
    heads = set(history) - {p for found in history.values() for p in found}
    assert rows[0][1] in heads


@given(histories())
def test_every_lane_leads_from_a_version_to_its_parents(
    history: dict[str, tuple[str, ...]],
) -> None:
    newest_first = dict(reversed(history.items()))
    waiting: list[set[str]] = []  # for each lane, the versions whose parent it leads to
    found: dict[str, set[str]] = {digest: set() for digest in history}
    for row in rows(newest_first):
        assert row.n_above == len(waiting)
        lanes = [*waiting, set[str]()] if row.column == row.n_above else waiting
        for child in lanes[row.column]:
            found[child].add(row.digest)
        below: list[set[str]] = [set() for _ in {end for _, end in row.lines}]
        for start, end in row.lines:
            below[end] |= {row.digest} if start == row.column else lanes[start]
        waiting = below
    assert waiting == []
    assert found == {digest: set(parents) for digest, parents in history.items()}
