from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import Entry, codebook_of, codebooks, entries

from mlflow_edit.errors import CorruptPatch, ShapeMismatch
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.format import patch_digest

A, B, C = (letter * 64 for letter in "abc")
queries = st.lists(
    st.tuples(st.integers(-24, 24), st.integers(-24, 24)).map(lambda q: (q[0] / 4, q[1] / 4)),
    min_size=1,
    max_size=6,
)


def alike(one: Codebook, other: Codebook) -> bool:
    """Tell whether two codebooks are equal and do the same."""
    probes = torch.cartesian_prod(torch.arange(-5, 6.0), torch.arange(-5, 6.0))
    answers = zip(one.nearest(probes), other.nearest(probes), strict=True)
    return (
        one == other
        and hash(one) == hash(other)
        and one.entry_digests == other.entry_digests
        and torch.equal(one.keys.float(), other.keys.float())
        and torch.equal(one.values.float(), other.values.float())
        and torch.equal(one.effective_radii, other.effective_radii)
        and (one.labels, one.edit_ids) == (other.labels, other.edit_ids)
        and all(torch.equal(mine, theirs) for mine, theirs in answers)
    )


@given(codebooks(), codebooks())
def test_union_is_commutative(one: Codebook, other: Codebook) -> None:
    assert alike(one.union(other), other.union(one))
    if len(one) or len(other):  # the float type of nothing does not matter
        assert patch_digest(one.union(other)) == patch_digest(other.union(one))


@given(codebooks(), codebooks(), codebooks())
def test_union_is_associative(one: Codebook, two: Codebook, three: Codebook) -> None:
    left, right = one.union(two).union(three), one.union(two.union(three))
    assert alike(left, right)
    assert alike(left, one.union(two, three))
    assert alike(left, three.union(one, two))


@given(codebooks(), codebooks())
def test_union_is_idempotent(one: Codebook, other: Codebook) -> None:
    assert alike(one.union(one), one)
    assert patch_digest(one.union(one)) == patch_digest(one)
    assert alike(one.union(other).union(other), one.union(other))


@given(codebooks())
def test_an_empty_codebook_is_the_identity(one: Codebook) -> None:
    empty = codebook_of([])
    assert alike(one.union(empty), one)
    assert alike(empty.union(one), one)
    assert alike(one.union(), one)
    if len(one):
        assert patch_digest(empty.union(one)) == patch_digest(one)


@given(st.lists(entries, max_size=7), st.randoms(use_true_random=False))
def test_the_order_of_insertion_never_matters(items: list[Entry], random: Any) -> None:
    shuffled = random.sample(items, len(items))
    assert alike(codebook_of(items), codebook_of(shuffled))
    assert patch_digest(codebook_of(items)) == patch_digest(codebook_of(shuffled))
    one_by_one = codebook_of([])
    for item in shuffled:
        one_by_one = one_by_one.union(codebook_of([item]))
    assert alike(one_by_one, codebook_of(items))


@given(st.lists(entries, max_size=7), st.frozensets(st.sampled_from(["e1", "e2", "e3", "e4"])))
def test_leaving_out_edits_is_never_having_had_them(
    items: list[Entry], out: frozenset[str]
) -> None:
    rest = [item for item in items if item.edit_id not in out]
    assert alike(codebook_of(items).without_edits(out), codebook_of(rest))


@given(st.lists(entries, max_size=5), st.lists(entries, max_size=5))
def test_a_union_without_the_other_is_the_one(one: list[Entry], other: list[Entry]) -> None:
    mine = [item._replace(edit_id=f"mine-{item.edit_id}") for item in one]
    theirs = codebook_of(other)
    united = codebook_of(mine).union(theirs)
    assert alike(united.without_edits(frozenset(theirs.edit_ids)), codebook_of(mine))


def test_equal_entries_are_kept_once() -> None:
    item = Entry((0, 0), (1, 1), 1.0, 0, A, "e1")
    assert len(codebook_of([item, item])) == 1
    assert len(codebook_of([item, item._replace(edit_id="e2")])) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"key": (0, 0.25)},
        {"value": (1, 1.25)},
        {"radius": 1.25},
        {"token": 1},
        {"label": B},
        {"edit_id": "e2"},
    ],
)
def test_everything_counts_in_the_digest_of_an_entry(change: dict[str, Any]) -> None:
    item = Entry((0, 0), (1, 1), 1.0, 0, A, "e1")
    one, other = codebook_of([item]), codebook_of([item._replace(**change)])
    assert one != other
    assert one.entry_digests != other.entry_digests
    assert patch_digest(one) != patch_digest(other)


def test_codebooks_of_other_layers_differ() -> None:
    item = Entry((0, 0), (1, 1), 1.0, 0, A, "e1")
    one = codebook_of([item])
    assert one != codebook_of([item], layer="stack.2")
    assert one != codebook_of([item], stack="other")
    assert one != "a codebook"


def test_a_union_of_half_and_full_precision_loses_nothing() -> None:
    torch.manual_seed(0)
    exact = torch.randn(6, 2)  # not representable in float16
    full = replace(
        codebook_of([Entry((0, 0), (0, 0), 1.0, 0, A, f"f{i}") for i in range(6)]),
        keys=exact,
        values=exact.flip(0),
    )
    half = replace(
        codebook_of([Entry((0, 0), (0, 0), 1.0, 0, B, f"h{i}") for i in range(6)]),
        keys=exact.half(),
        values=exact.half(),
    )
    united = full.union(half)
    assert united.keys.dtype == united.values.dtype == torch.float32
    assert set(united.entry_digests) == {*full.entry_digests, *half.entry_digests}
    for book in (full, half):
        back = united.without_edits(frozenset(united.edit_ids) - frozenset(book.edit_ids))
        assert alike(back, book)
    assert half.union(half.without_edits(frozenset({"h0"}))).keys.dtype == torch.float16


def test_an_entry_in_half_and_in_full_precision_is_one_entry() -> None:
    item = Entry((0.5, 0.25), (1, 1), 1.0, 0, A, "e1")
    half, full = codebook_of([item], dtype=torch.float16), codebook_of([item])
    assert half == full
    assert len(half.union(full)) == 1


def test_what_cannot_be_united() -> None:
    item = Entry((0, 0), (1, 1), 1.0, 0, A, "e1")
    one = codebook_of([item])
    with pytest.raises(ShapeMismatch, match="different layers"):
        one.union(codebook_of([item], layer="stack.2"))
    with pytest.raises(ShapeMismatch, match="different layers"):
        one.union(codebook_of([], layer="stack.2"))
    wide = replace(one, keys=torch.zeros(1, 3), values=torch.zeros(1, 3))
    with pytest.raises(ShapeMismatch, match="different widths"):
        one.union(wide)


# lookup


@given(st.lists(entries, min_size=1, max_size=8), queries, st.booleans())
def test_the_nearest_ball_that_contains_the_query_answers(
    items: list[Entry], asked: list[tuple[float, float]], by_token: bool
) -> None:
    book = codebook_of(items)
    tokens = torch.tensor([i % 2 for i in range(len(asked))]) if by_token else None
    found = book.nearest(torch.tensor(asked), tokens)
    for row, query in enumerate(asked):
        candidates = []
        for i, key in enumerate(book.keys.tolist()):
            length = float(torch.tensor([query[0] - key[0], query[1] - key[1]]).norm())
            same = tokens is None or int(book.key_tokens[i]) == int(tokens[row])
            candidates.append((length if same else float("inf"), i))
        inside = [(d, i) for d, i in candidates if d <= float(book.effective_radii[i])]
        distance, index = min(inside or candidates)
        assert bool(found.in_scope[row]) == bool(inside)
        assert float(found.distance[row]) == pytest.approx(distance, rel=1e-6)
        assert int(found.index[row]) == index or candidates[int(found.index[row])][0] == (
            pytest.approx(distance, rel=1e-6)
        )


def test_a_nearer_key_whose_ball_is_too_small_does_not_answer() -> None:
    book = codebook_of(
        [Entry((0, 0), (0, 0), 0.25, 0, A, "e1"), Entry((2.5, 0), (0, 0), 2.0, 0, A, "e2")]
    )
    found = book.nearest(torch.tensor([[0.75, 0.0]]))
    assert book.edit_ids[int(found.index)] == "e2"
    assert found.in_scope.item()


@given(st.permutations(range(5)))
def test_ties_are_decided_by_the_digest_of_the_entry(order: list[int]) -> None:
    places = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 0)]
    items = [Entry(places[i], (i, i), 3.0, 0, A, f"e{i}") for i in order]
    book = codebook_of(items)
    found = book.nearest(torch.zeros(3, 2))
    assert found.index.tolist() == [0, 0, 0]
    assert found.distance.tolist() == [1, 1, 1]
    assert found.in_scope.all()


def test_an_empty_codebook_answers_nothing() -> None:
    found = codebook_of([]).nearest(torch.zeros(2, 2))
    assert found.index.tolist() == [-1, -1]
    assert not found.in_scope.any()
    assert found.distance.isinf().all()


@pytest.mark.parametrize("shape", [(2, 3), (2,), (1, 2, 2)])
def test_queries_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatch):
        codebook_of([Entry((0, 0), (1, 1), 1.0, 0, A, "e1")]).nearest(torch.zeros(shape))


# what a codebook may hold

GOOD: dict[str, Any] = {
    "layer": "stack.1",
    "stack": "stack",
    "keys": torch.zeros(2, 3),
    "values": torch.zeros(2, 3),
    "radii": torch.tensor([1.0, 2.0]),
    "key_tokens": torch.tensor([1, 2]),
    "labels": (A, B),
    "edit_ids": ("e1", "e2"),
}


@pytest.mark.parametrize(
    "change",
    [
        {"keys": torch.zeros(2)},
        {"keys": torch.zeros(())},
        {"values": torch.zeros(2, 3, 1)},
        {"keys": torch.zeros(3, 3)},
        {"radii": torch.ones(3)},
        {"radii": torch.ones(2, 1)},
        {"radii": torch.tensor(1.0)},
        {"key_tokens": torch.tensor(1)},
        {"key_tokens": torch.tensor([1])},
        {"labels": (A,)},
        {"edit_ids": ("e1",)},
        {"keys": torch.zeros(2, 3, dtype=torch.float64)},
        {"values": torch.zeros(2, 3, dtype=torch.bfloat16)},
        {"values": torch.zeros(2, 3, dtype=torch.int64)},
        {"radii": torch.ones(2, dtype=torch.float16)},
        {"key_tokens": torch.ones(2, dtype=torch.int32)},
        {"keys": torch.full((2, 3), torch.nan)},
        {"values": torch.full((2, 3), torch.inf)},
        {"values": torch.full((2, 3), -torch.inf, dtype=torch.float16)},
        {"radii": torch.tensor([1.0, torch.inf])},
        {"radii": torch.tensor([1.0, torch.nan])},
        {"radii": torch.tensor([1.0, -0.5])},
        {"key_tokens": torch.tensor([1, -1])},
        {"labels": (A, "b" * 63)},
        {"labels": (A, B + "\n")},
        {"labels": (A, "B" * 64)},
        {"labels": (A, 7)},
        {"labels": (A, [B])},
        {"edit_ids": ("e1", None)},
        {"edit_ids": ("e1", "\ud800")},
        {"layer": ""},
        {"layer": 7},
        {"layer": "\ud800"},
        {"stack": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_codebooks_that_cannot_be(change: dict[str, Any]) -> None:
    Codebook(**GOOD)
    with pytest.raises(CorruptPatch):
        Codebook(**{**GOOD, **change})


@given(codebooks())
def test_a_codebook_is_made_again_of_its_parts(book: Codebook) -> None:
    assert alike(Codebook.from_parts(book.header(), book.tensors()), book)


@pytest.mark.parametrize("part", ["layer", "stack", "labels", "edit_ids"])
def test_parts_of_the_header_must_be_there(part: str) -> None:
    book = Codebook(**GOOD)
    header = {name: value for name, value in book.header().items() if name != part}
    for wrong in (header, {**book.header(), "extra": 1}, {**book.header(), part: 7}):
        with pytest.raises(CorruptPatch):
            Codebook.from_parts(wrong, book.tensors())


@pytest.mark.parametrize("part", ["keys", "values", "radii", "key_tokens"])
def test_tensors_must_be_there(part: str) -> None:
    book = Codebook(**GOOD)
    tensors = {name: value for name, value in book.tensors().items() if name != part}
    for wrong in (tensors, {**book.tensors(), "extra": torch.zeros(1)}):
        with pytest.raises(CorruptPatch):
            Codebook.from_parts(book.header(), wrong)


# composition


@given(st.lists(codebooks(), max_size=4), st.randoms(use_true_random=False))
def test_a_composition_knows_no_order(books: list[Codebook], random: Any) -> None:
    parts = [
        Part(f"{i:064x}", book, frozenset({"e1"} if i % 2 else ())) for i, book in enumerate(books)
    ]
    composed, turned = compose(parts), compose(random.sample(parts, len(parts)))
    assert composed.patches == turned.patches
    assert composed.batch_of == turned.batch_of
    united = [
        part.patch.without_edits(part.excluded)
        for part in parts
        if isinstance(part.patch, Codebook)
    ]
    expected = codebook_of([]).union(*united)
    assert composed.patches == ((expected,) if len(expected) else ())
    assert set(composed.batch_of) == set(expected.entry_digests)


def test_each_layer_has_its_own_codebook() -> None:
    item = Entry((0, 0), (1, 1), 1.0, 0, A, "e1")
    books = [codebook_of([item], layer=f"stack.{i}") for i in (2, 1)]
    composed = compose([Part(A, books[0]), Part(B, books[1])])
    assert [book.layer for book in composed.patches] == ["stack.1", "stack.2"]
    assert composed.batch_of == {books[0].entry_digests[0]: A, books[1].entry_digests[0]: B}


def test_an_entry_of_two_batches_is_the_first_ones() -> None:
    book = codebook_of([Entry((0, 0), (1, 1), 1.0, 0, A, "e1")])
    for parts in ([Part(A, book), Part(B, book)], [Part(B, book), Part(A, book)]):
        assert compose(parts).batch_of == {book.entry_digests[0]: A}
