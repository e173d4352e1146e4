from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import Entry, codebook_of, entries

from mlflow_edit.patches import radii as radii_module
from mlflow_edit.patches.radii import effective_radii, exact_distances

A, B, C = (letter * 64 for letter in "abc")


def entry(key: tuple[float, float], radius: float, label: str = A, token: int = 0) -> Entry:
    return Entry(key, (0.0, 0.0), radius, token, label, "e1")


def derived(items: list[Entry]) -> list[float]:
    return effective_radii(
        torch.tensor([item.key for item in items]).reshape(-1, 2),
        torch.tensor([item.radius for item in items]),
        [item.label for item in items],
        torch.tensor([item.token for item in items]),
    ).tolist()


def distance(one: Entry, other: Entry) -> float:
    squares = ((a - b) ** 2 for a, b in zip(one.key, other.key, strict=True))
    return float(np.float32(np.sqrt(sum(squares))))


def reference(items: list[Entry]) -> list[float]:
    """The formula of `effective_radii`, entry by entry."""
    found = []
    for one in items:
        peers = [other for other in items if other.token == one.token]
        reached = [
            distance(one, other)
            for other in peers
            if other.label == one.label and distance(one, other) <= one.radius + other.radius
        ]
        foes = [distance(one, other) for other in peers if other.label != one.label]
        found.append(min([max([one.radius, *reached]), *(foe / 2 for foe in foes)]))
    return found


@given(st.lists(entries, max_size=8))
def test_radii_follow_the_formula(items: list[Entry]) -> None:
    assert derived(items) == reference(items)


@given(st.lists(entries, max_size=8), st.randoms(use_true_random=False))
def test_radii_know_no_order(items: list[Entry], random: Any) -> None:
    order = random.sample(range(len(items)), len(items))
    assert derived([items[i] for i in order]) == [derived(items)[i] for i in order]


@given(st.lists(entries, min_size=2, max_size=8))
def test_balls_that_disagree_never_overlap(items: list[Entry]) -> None:
    found = derived(items)
    for i, one in enumerate(items):
        for j, other in enumerate(items[:i]):
            if one.label != other.label and one.token == other.token:
                assert found[i] + found[j] <= distance(one, other)


@pytest.mark.parametrize("width", [2, 64, 1024])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_balls_of_real_width_that_disagree_never_overlap(width: int, scale: float) -> None:
    torch.manual_seed(width)
    keys = torch.randn(60, width) * scale
    labels = [(A, B, C)[i % 3] for i in range(60)]
    wanted = torch.full((60,), 2 * scale * width**0.5)
    found = effective_radii(keys, wanted, labels, torch.zeros(60, dtype=torch.long))
    apart = exact_distances(keys, keys)
    foes = torch.tensor([[one != other for other in labels] for one in labels])
    assert (found[:, None] + found[None, :] <= apart)[foes].all()


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    args: Any = (
        torch.randn(50, 8),
        torch.rand(50) * 4,
        [(A, B)[i % 2] for i in range(50)],
        torch.arange(50) % 3,
    )
    whole = effective_radii(*args)
    monkeypatch.setattr(radii_module, "CHUNK", 7)
    assert torch.equal(effective_radii(*args), whole)


def test_a_lone_entry_keeps_its_radius() -> None:
    assert derived([entry((0, 0), 1.5)]) == [1.5]
    assert derived([]) == []


def test_agreeing_neighbours_that_touch_reach_each_other() -> None:
    assert derived([entry((0, 0), 1), entry((2, 0), 1)]) == [2, 2]
    assert derived([entry((0, 0), 1), entry((2.25, 0), 1)]) == [1, 1]


def test_disagreeing_neighbours_split_the_way_between_them() -> None:
    assert derived([entry((0, 0), 5), entry((2, 0), 0.5, B)]) == [1, 0.5]
    assert derived([entry((0, 0), 5), entry((0, 0), 5, B)]) == [0, 0]


def test_a_foe_stops_what_friends_would_reach() -> None:
    assert derived([entry((0, 0), 2), entry((4, 0), 2), entry((-1, 0), 3, B)]) == [0.5, 2.5, 0.5]


def test_entries_of_other_tokens_never_meet() -> None:
    assert derived([entry((0, 0), 1), entry((0, 0), 1, B, token=1)]) == [1, 1]
    assert derived([entry((0, 0), 1), entry((2, 0), 1, A, token=1)]) == [1, 1]


def test_distances_do_not_cancel() -> None:
    far = torch.full((1, 768), 1e3)
    near = far.clone()
    near[0, 0] += 1e-2
    assert exact_distances(far, near).item() == pytest.approx(1e-2, rel=1e-2)
    assert exact_distances(far, far).item() == 0


@given(st.lists(entries, max_size=6))
def test_a_codebook_derives_its_radii_by_the_formula(items: list[Entry]) -> None:
    book = codebook_of(items)
    kept = [
        Entry(tuple(k), tuple(v), r, t, label, edit)
        for k, v, r, t, label, edit in zip(
            book.keys.tolist(),
            book.values.tolist(),
            book.radii.tolist(),
            book.key_tokens.tolist(),
            book.labels,
            book.edit_ids,
            strict=True,
        )
    ]
    assert book.effective_radii.tolist() == reference(kept)
