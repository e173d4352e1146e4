import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from mlflow_edit.patches import key_index
from mlflow_edit.patches.key_index import KeyIndex

N_MANY, D_KEY = 4000, 32


@st.composite
def corners(draw: st.DrawFn, max_rows: int) -> Tensor:
    """Draw unit vectors of four halves: products are exact, ties and duplicates common."""
    halves = st.sampled_from([-0.5, 0.5])
    places = st.lists(st.integers(0, 7), min_size=4, max_size=4, unique=True)
    n_rows = draw(st.integers(0, max_rows))
    rows = torch.zeros(n_rows, 8)
    for row in rows:
        for place in draw(places):
            row[place] = draw(halves)
    return rows


def random_keys(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, D_KEY, generator=generator), dim=1)


def near(keys: Tensor, n: int) -> Tensor:
    """Return embeddings near some of the keys."""
    return normalize(keys[:: len(keys) // n][:n] + 0.3 * random_keys(n, seed=1), dim=1)


def compared(keys: Tensor, embeddings: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Compare each embedding with each key, one by one."""
    similar = (embeddings.double()[:, None] * keys.double()).sum(dim=2).float()
    best = similar.sort(dim=1, descending=True, stable=True)
    return best.values[:, :k], best.indices[:, :k]


def recall(found: Tensor, expected: Tensor) -> float:
    hits = [len({*a} & {*b}) for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
    return sum(hits) / expected.numel()


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Return keys that are too many to compare all."""
    monkeypatch.setattr(key_index, "EXACT_UP_TO", 1000)
    return random_keys(N_MANY)


@given(keys=corners(max_rows=40), embeddings=corners(max_rows=5), k=st.integers(1, 50))
def test_exact_search_equals_comparing_all_with_ties_to_the_smaller_entry(keys, embeddings, k):
    similar, entries = KeyIndex(keys).search(embeddings, k)
    expected = compared(keys, embeddings, k)
    assert torch.equal(similar, expected[0])
    assert torch.equal(entries, expected[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_exact_search_equals_comparing_all_where_products_are_rounded(dtype):
    keys = random_keys(3000).to(dtype)
    similar, entries = KeyIndex(keys).search(near(keys.float(), 90), 6)
    expected = compared(keys, near(keys.float(), 90), 6)
    assert similar.dtype == torch.float32
    assert torch.equal(similar, expected[0])
    assert torch.equal(entries, expected[1])


def test_of_many_duplicates_the_smallest_entries_are_found():
    keys = random_keys(5)[torch.arange(2000) % 5]
    similar, entries = KeyIndex(keys).search(random_keys(5), 6)
    assert entries.tolist() == [[i + 5 * j for j in range(6)] for i in range(5)]
    assert (similar == similar[:, :1]).all()


def test_the_order_of_keys_changes_only_their_numbers():
    keys, order = random_keys(2000), torch.randperm(2000, generator=torch.manual_seed(0))
    similar, entries = KeyIndex(keys).search(near(keys, 20), 6)
    moved, places = KeyIndex(keys[order]).search(near(keys, 20), 6)
    assert torch.equal(similar, moved)
    assert torch.equal(entries, order[places])


@pytest.mark.parametrize("exact_up_to", [1000, N_MANY])
def test_what_is_found_does_not_depend_on_the_batch(monkeypatch, exact_up_to):
    monkeypatch.setattr(key_index, "EXACT_UP_TO", exact_up_to)
    keys = random_keys(N_MANY)
    index, embeddings = KeyIndex(keys), near(keys, 70)
    similar, entries = index.search(embeddings, 6)
    for size in (1, 7, 64):
        parts = [index.search(part, 6) for part in embeddings.flip(0).split(size)]
        assert torch.equal(torch.cat([one[0] for one in parts]).flip(0), similar)
        assert torch.equal(torch.cat([one[1] for one in parts]).flip(0), entries)


def test_nothing_is_found_in_an_empty_set():
    similar, entries = KeyIndex(torch.empty(0, D_KEY)).search(random_keys(3), 6)
    assert similar.shape == entries.shape == (3, 0)


def test_no_embeddings_find_nothing():
    similar, entries = KeyIndex(random_keys(9)).search(torch.empty(0, D_KEY), 6)
    assert similar.shape == entries.shape == (0, 6)


def test_no_more_entries_are_found_than_there_are():
    similar, entries = KeyIndex(random_keys(4)).search(random_keys(3), 6)
    assert similar.shape == (3, 4)
    assert [sorted(row) for row in entries.tolist()] == [[0, 1, 2, 3]] * 3


def test_many_keys_are_found_by_their_codes(many):
    embeddings = near(many, 200)
    similar, entries = KeyIndex(many).search(embeddings, 6)
    expected = compared(many, embeddings, 6)
    assert recall(entries, expected[1]) > 0.97
    assert torch.equal(entries[:, 0], expected[1][:, 0])
    assert torch.equal(similar[:, 0], expected[0][:, 0])


def test_many_keys_can_all_be_wanted(many):
    _, entries = KeyIndex(many).search(near(many, 2), N_MANY)
    assert torch.equal(entries, compared(many, near(many, 2), N_MANY)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_two_indexes_of_the_same_keys_find_the_same(many, dtype):
    found = [KeyIndex(many.to(dtype)).search(near(many, 200), 6) for _ in range(2)]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_the_number_of_threads_changes_nothing(many):
    faiss = pytest.importorskip("faiss")
    n_threads = faiss.omp_get_max_threads()
    expected = KeyIndex(many).search(near(many, 200), 6)
    faiss.omp_set_num_threads(1)
    try:
        found = KeyIndex(many).search(near(many, 200), 6)
    finally:
        faiss.omp_set_num_threads(n_threads)
    assert torch.equal(found[1], expected[1])


def test_codes_are_learned_on_the_first_search_only(many, monkeypatch):
    built = []
    by_code = key_index._by_code
    monkeypatch.setattr(key_index, "_by_code", lambda keys: built.append(1) or by_code(keys))
    index = KeyIndex(many)
    assert not built
    index.search(near(many, 2), 6)
    index.search(near(many, 2), 6)
    assert built == [1]


def test_without_faiss_all_keys_are_compared(many, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    _, entries = KeyIndex(many).search(near(many, 50), 6)
    assert torch.equal(entries, compared(many, near(many, 50), 6)[1])
