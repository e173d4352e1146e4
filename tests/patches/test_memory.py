"""Memories: read together, free of order, and refused where they cannot be."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import Entry, codebook_of, codebooks
from torch import Tensor

from mlflow_edit.errors import CorruptPatch, ShapeMismatch
from mlflow_edit.patches.codebook import Codebook, Recalled
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.format import patch_digest, read_patch, write_patch
from mlflow_edit.patches.memory import RIDGE, WIDTHS, GatedMemory, Memory, ridge_fit
from mlflow_edit.patches.overlap import overlaps

A, B, C = (letter * 64 for letter in "abc")
ENTRIES = [
    Entry((1, 0), (3, 4), 32.0, 7, A, "e1"),
    Entry((3, 0), (-3, 1), 32.0, 7, B, "e2"),
    Entry((0, 5), (2, 2), 32.0, 9, C, "e3"),
]
OTHERS = torch.tensor([[-6.0, -6.0], [6.0, -7.0], [-6.0, -6.0]])


def memory_of(book: Codebook) -> Memory:
    return Memory(**{name: getattr(book, name) for name in FIELDS})


def gated_of(book: Codebook, others: Tensor = OTHERS) -> GatedMemory:
    return GatedMemory(**{name: getattr(book, name) for name in FIELDS}, others=others)


FIELDS = ("layer", "stack", "labels", "edit_ids", "keys", "values", "radii", "key_tokens")
BOOK = codebook_of(ENTRIES)
BOTH = [memory_of(BOOK), gated_of(BOOK)]


def recall(memory: Memory, query: tuple[float, float]) -> Recalled | None:
    asked = torch.tensor(query)
    return memory.recall(asked, torch.arange(len(memory)), (memory.keys - asked).norm(dim=1))


def test_attention_is_the_softmax_of_squared_distances() -> None:
    query, width = np.array([1.75, 0.5]), 32.0 / WIDTHS
    squares = ((BOOK.keys.numpy() - query) ** 2).sum(1)
    weights = np.exp(-squares / (2 * width**2))
    weights /= weights.sum()
    found = recall(memory_of(BOOK), (1.75, 0.5))
    assert found is not None
    np.testing.assert_allclose(found.value.numpy(), weights @ BOOK.values.numpy(), rtol=1e-5)
    assert found.match == pytest.approx(weights.max(), rel=1e-5)
    assert BOOK.edit_ids[found.entry] == "e1"


def test_fits_are_the_ridge_solution() -> None:
    draw = torch.Generator().manual_seed(0)
    inputs, wanted = torch.randn(5, 9, generator=draw), torch.randn(5, 3, generator=draw)
    weights = torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0])
    shares = (weights / weights.sum()).double().numpy()
    x, y = inputs.double().numpy(), wanted.double().numpy()
    centre, offset = shares @ x, shares @ y
    scatter = (x - centre).T * shares @ (x - centre)
    sizes = np.linalg.svd(np.sqrt(shares)[:, None] * (x - centre), compute_uv=False)
    system = scatter + RIDGE * (sizes**2).mean() * np.eye(9)
    slope = np.linalg.solve(system, (x - centre).T * shares @ (y - offset))
    fit = ridge_fit(inputs, wanted, weights)
    query = torch.randn(9, generator=draw)
    expected = (query.double().numpy() - centre) @ slope + offset
    np.testing.assert_allclose(fit.at(query).numpy(), expected, rtol=1e-4)


def test_a_gate_opens_for_edits_and_stays_shut_for_others() -> None:
    memory = gated_of(BOOK)
    for i, key in enumerate(BOOK.keys.tolist()):
        found = recall(memory, tuple(key))
        assert found is not None
        assert found.entry == i
        assert 0.5 <= (found.match or 0) <= 1
    for other in OTHERS.tolist():
        assert recall(memory, tuple(other)) is None


def test_a_gate_gives_way_to_the_edits() -> None:
    between = codebook_of([*ENTRIES, Entry((0, -6.5), (1, 1), 32.0, 7, A, "e4")])
    memory = gated_of(between)
    fit, least = memory.gate
    assert least < 0.5
    for key in memory.keys:
        assert float(fit.at(key)) >= least


@given(codebooks(), codebooks())
def test_union_is_that_of_sets(one: Codebook, other: Codebook) -> None:
    for make in (memory_of, gated_of):
        united = make(one).union(make(other))
        assert united == make(other).union(make(one))
        assert united == make(one).union(make(other), make(one))
        assert united.entry_digests == one.union(other).entry_digests
        if len(one) or len(other):
            assert patch_digest(united) == patch_digest(make(other).union(make(one)))


@given(st.permutations(ENTRIES), st.sampled_from(["e1", "e2", "e3"]))
def test_leaving_an_edit_out_is_never_having_had_it(items: list[Entry], left_out: str) -> None:
    rest = codebook_of([item for item in items if item.edit_id != left_out])
    for make in (memory_of, gated_of):
        without = make(codebook_of(items)).without_edits(frozenset({left_out}))
        assert without == make(rest)
        mine, theirs = recall(without, (1.5, 0.25)), recall(make(rest), (1.5, 0.25))
        assert mine is not None
        assert theirs is not None
        assert torch.equal(mine.value, theirs.value)


def test_others_are_united() -> None:
    more = torch.tensor([[9.0, -9.0], [6.0, -7.0]])
    united = gated_of(BOOK).union(gated_of(BOOK, more))
    assert united.others.tolist() == [[-6.0, -6.0], [6.0, -7.0], [9.0, -9.0]]
    assert united != gated_of(BOOK)


@pytest.mark.parametrize("memory", BOTH, ids=lambda memory: memory.form)
def test_a_memory_is_stored(memory: Memory) -> None:
    assert memory.kind == "memory"
    again = read_patch(write_patch(memory))
    assert again == memory
    assert type(again) is type(memory)
    assert torch.equal(again.effective_radii, memory.radii)  # type: ignore[attr-defined]
    assert memory != BOOK
    assert memory not in [BOOK, *(other for other in BOTH if other is not memory)]


@pytest.mark.parametrize(
    "others",
    [
        torch.zeros(2),
        torch.zeros(2, 3),
        torch.zeros(0, 2),
        torch.zeros(2, 2, dtype=torch.float64),
        torch.full((1, 2), torch.nan),
    ],
)
def test_others_that_cannot_be(others: Tensor) -> None:
    with pytest.raises(CorruptPatch):
        gated_of(BOOK, others)


@pytest.mark.parametrize("memory", BOTH, ids=lambda memory: memory.form)
def test_parts_must_be_there(memory: Memory) -> None:
    tensors: dict[str, Any] = memory.tensors()
    for name in tensors:
        rest = {key: value for key, value in tensors.items() if key != name}
        with pytest.raises(CorruptPatch):
            type(memory).from_parts(memory.header(), rest)
    with pytest.raises(CorruptPatch):
        type(memory).from_parts(memory.header(), {**tensors, "more": tensors["keys"]})


def test_forms_are_kept_apart() -> None:
    with pytest.raises(ShapeMismatch):
        memory_of(BOOK).union(BOOK)
    parts = [Part(letter * 64, book) for letter, book in zip("123", (*BOTH, BOOK), strict=True)]
    composed = compose(parts)
    assert [book.form for book in composed.patches] == ["codebook", "memory", "memory.gated"]
    assert compose(parts[::-1]) == composed
    left = compose([replace(part, excluded=frozenset({"e2"})) for part in parts])
    assert [sorted(book.edit_ids) for book in left.patches] == [["e1", "e3"]] * 3


@pytest.mark.parametrize(
    ("distance", "kind"), [(0.9, "contradiction"), (1.5, "steal"), (2.1, None), (30.0, None)]
)
@pytest.mark.parametrize("form", [memory_of, gated_of])
def test_entries_of_a_memory_meet_where_one_has_a_say_at_the_other(
    form: Any, distance: float, kind: str | None
) -> None:
    ours = form(codebook_of([Entry((0, 0), (0, 0), 32.0, 7, A, "e")]))
    theirs = form(codebook_of([Entry((distance, 0), (1, 1), 32.0, 7, C, "f")]))
    assert [overlap.kind for overlap in overlaps(ours, theirs)] == ([kind] if kind else [])
