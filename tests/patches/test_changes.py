"""What is added to weights: exact products, sparse and lossless dense changes, and their file."""

import json
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlflow_edit.errors import (
    BaseMismatchError,
    CorruptPatch,
    IntegrityError,
    InvalidInputError,
    ShapeMismatch,
)
from mlflow_edit.patches.changes import Change, Dense, LowRank, Sparse
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.exact_product import BLOCK, add_product, exact_product
from mlflow_edit.patches.format import patch_digest, read_patch, write_patch

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
seeds = st.integers(0, 2**31)


def noise(seed: int, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) * scale).to(dtype)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    seed, dtype = draw(seeds), draw(st.sampled_from(FLOATS))
    rows, cols, rank = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(0, 3))
    name = draw(st.sampled_from(["a.weight", "b.weight", "é.weight"]))
    match draw(st.sampled_from(["low-rank", "sparse", "dense"])):
        case "low-rank":
            left, right = noise(seed, rows, rank, dtype=dtype), noise(seed, rank, cols, dtype=dtype)
            return LowRank(name, left, right, draw(st.sampled_from([1.0, 0.1, -2.0])))
        case "sparse":
            places = sorted(draw(st.sets(st.integers(0, 30), max_size=5)))
            return Sparse(name, torch.tensor(places).long(), noise(seed, len(places), dtype=dtype))
    base = noise(seed, rows, cols, dtype=dtype)
    return Dense.of(name, base, base + noise(seed + 1, rows, cols, dtype=dtype, scale=0.1))


deltas = st.builds(
    lambda found, ids: Delta(tuple(set(found)), tuple(ids)),
    st.lists(changes(), max_size=4),
    st.lists(st.sampled_from(["e1", "e2", "é3"]), max_size=4),
)


@settings(deadline=None)
@given(deltas)
def test_what_is_written_is_read_back(delta: Delta) -> None:
    data = write_patch(delta)
    read = read_patch(data, digest=patch_digest(delta))
    assert isinstance(read, Delta)
    assert read == delta
    assert hash(read) == hash(delta)
    assert write_patch(read) == data
    for mine, theirs in zip(read.changes, delta.changes, strict=True):
        for name, tensor in mine.tensors().items():
            assert tensor.dtype == theirs.tensors()[name].dtype
            assert torch.equal(tensor, theirs.tensors()[name])


@given(st.lists(changes(), max_size=5), st.randoms())
def test_the_order_in_which_changes_are_given_does_not_count(
    found: list[Change], any_: Any
) -> None:
    once = list(set(found))
    turned = list(once)
    any_.shuffle(turned)
    assert Delta(tuple(once), ("a", "b")) == Delta(tuple(turned), ("b", "a", "b"))
    assert patch_digest(Delta(tuple(once), ())) == patch_digest(Delta(tuple(turned), ()))


def test_a_change_twice_is_refused() -> None:
    change = LowRank("w", torch.ones(2, 1), torch.ones(1, 2))
    with pytest.raises(CorruptPatch, match="twice"):
        Delta((change, change), ())


def test_an_empty_delta_is_one() -> None:
    assert read_patch(write_patch(Delta((), ()))) == Delta((), ())


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 9), st.integers(1, 40), st.integers(1, 9), st.sampled_from(FLOATS))
def test_products_are_the_same_bits_in_any_order_and_near_the_exact_ones(
    seed: int, rows: int, rank: int, cols: int, dtype: torch.dtype
) -> None:
    left = noise(seed, rows, rank, dtype=dtype) * 2.0 ** (seed % 8 - 4)
    right = noise(seed + 1, rank, cols, dtype=dtype)
    found = exact_product(left, right)
    turn = torch.randperm(rank, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(found, exact_product(left[:, turn], right[turn]))
    assert torch.equal(found, exact_product(right.T, left.T).T)
    for i in range(rows):
        for j in range(cols):
            pairs = zip(left[i].tolist(), right[:, j].tolist(), strict=True)
            exact = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction())
            most = float(left[i].abs().max()) * float(right[:, j].abs().max())
            error = abs(exact - Fraction(float(found[i, j])))
            assert error <= (rank * most * 2.0**-21 if rank > 1 else 0)


def test_a_product_is_added_in_blocks_as_in_one() -> None:
    left, right = noise(1, 700, 3), noise(2, 3, 900)
    assert left.shape[0] * right.shape[1] > 2 * BLOCK
    total = noise(3, 700, 900).double()
    expected = total + 0.5 * exact_product(left, right)
    add_product(total, left, right, 0.5)
    assert torch.equal(total, expected)
    plain = left.double() @ right.double()
    torch.testing.assert_close(exact_product(left, right), plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e-45, 3e38, 2.0**-140])
def test_products_of_extreme_values_are_finite(value: float) -> None:
    held = float(torch.tensor(value))  # as float32
    found = exact_product(torch.full((2, 3), value), torch.full((3, 2), 1.0))
    assert found.tolist() == [[3 * held] * 2] * 2


def test_a_product_of_no_factors_is_zero() -> None:
    assert torch.equal(
        exact_product(torch.zeros(2, 0), torch.zeros(0, 3)), torch.zeros(2, 3).double()
    )
    assert exact_product(torch.zeros(0, 2), torch.zeros(2, 3)).shape == (0, 3)


@pytest.mark.parametrize("dtype", FLOATS)
def test_low_rank_adds_the_scaled_product(dtype: torch.dtype) -> None:
    change = LowRank("w", noise(1, 4, 2, dtype=dtype), noise(2, 2, 3, dtype=dtype), 0.5)
    base = noise(3, 4, 3, dtype=dtype)
    added = change.added(base)
    assert added.dtype == (torch.float64 if dtype == torch.float32 else torch.float32)
    expected = 0.5 * (change.left.double() @ change.right.double())
    assert torch.allclose(added.double(), expected, rtol=1e-6, atol=1e-7)
    with pytest.raises(ShapeMismatch):
        change.added(base.T)


def test_sparse_adds_to_its_places_only() -> None:
    change = Sparse("w", torch.tensor([1, 5]), torch.tensor([0.5, -2.0]))
    assert change.added(torch.zeros(2, 3)).tolist() == [[0, 0.5, 0], [0, 0, -2.0]]
    with pytest.raises(ShapeMismatch):
        change.added(torch.zeros(2, 2))


@settings(deadline=None)
@given(seeds, st.sampled_from(FLOATS), st.sampled_from([0.0, 1e-6, 1e-2, 1e3]))
def test_dense_gives_the_edited_weight_back_bit_for_bit(
    seed: int, dtype: torch.dtype, scale: float
) -> None:
    base = noise(seed, 3, 5, dtype=dtype)
    edited = noise(seed + 1, 3, 5, dtype=dtype, scale=scale) + base
    edited[0, 0] = -0.0
    back = Dense.of("w", base, edited).edited(base)
    kind = torch.int32 if dtype == torch.float32 else torch.int16
    assert back.dtype == dtype
    assert torch.equal(back.view(kind), edited.view(kind))


def test_dense_of_weights_loaded_in_another_type() -> None:
    base = noise(1, 4, 4, dtype=torch.bfloat16)
    edited = base.float() + noise(2, 4, 4, scale=0.01)
    change = Dense.of("w", base.float(), edited)
    assert torch.equal(change.edited(base), edited)  # float32 holds every bfloat16
    with pytest.raises(BaseMismatchError, match="not the weight") as caught:
        Dense.of("w", edited, edited * 2).edited(edited.bfloat16())
    assert "float32" in (caught.value.hint or "")


def test_dense_of_another_base_is_refused() -> None:
    base = noise(1, 4, 4)
    change = Dense.of("w", base, base + 1)
    with pytest.raises(BaseMismatchError):
        change.edited(base + 1e-6)
    with pytest.raises(ShapeMismatch):
        change.edited(base[:2])
    with pytest.raises(ShapeMismatch):
        Dense.of("w", base, base.bfloat16())
    with pytest.raises(InvalidInputError):
        Dense.of("w", base, base / 0)


def test_a_finetuned_bfloat16_tensor_takes_at_most_55_percent() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 256, bias=False)
    base = layer.weight.detach().bfloat16().clone()
    layer.weight.data.copy_(base.float())
    inputs, wanted = torch.randn(64, 256), torch.randn(64, 256)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-4)
    for _ in range(30):
        optimizer.zero_grad()
        (layer(inputs) - wanted).square().mean().backward()
        optimizer.step()
    edited = layer.weight.detach().bfloat16()
    assert (edited != base).float().mean() > 0.5  # really trained
    change = Dense.of("w", base, edited)
    assert change.bytes <= 0.55 * base.numel() * 2
    assert torch.equal(change.edited(base), edited)


ONES = torch.ones(2, 2)
BAD: dict[str, Any] = {
    "no product": lambda: LowRank("w", torch.ones(2, 1), ONES),
    "vectors": lambda: LowRank("w", torch.ones(2), torch.ones(2)),
    "two types": lambda: LowRank("w", ONES, ONES.half()),
    "whole numbers": lambda: LowRank("w", ONES.long(), ONES.long()),
    "nan": lambda: LowRank("w", ONES * math.nan, ONES),
    "infinity": lambda: LowRank("w", ONES, ONES * math.inf),
    "scale": lambda: LowRank("w", ONES, ONES, math.inf),
    "no name": lambda: LowRank("", ONES, ONES),
    "surrogate": lambda: LowRank("\ud800", ONES, ONES),
    "unsorted": lambda: Sparse("w", torch.tensor([2, 1]), torch.ones(2)),
    "repeated": lambda: Sparse("w", torch.tensor([1, 1]), torch.ones(2)),
    "negative": lambda: Sparse("w", torch.tensor([-1, 1]), torch.ones(2)),
    "wrapping": lambda: Sparse("w", torch.tensor([3, -(2**63) + 1]), torch.ones(2)),
    "lengths": lambda: Sparse("w", torch.tensor([1]), torch.ones(2)),
    "nan values": lambda: Sparse("w", torch.tensor([1]), torch.tensor([math.nan])),
    "short indices": lambda: Sparse("w", torch.tensor([1]).int(), torch.ones(1)),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_what_cannot_be_is_corrupt(make: Any) -> None:
    with pytest.raises(CorruptPatch):
        make()


def bomb(n_bytes: int) -> Tensor:
    data = zstandard.ZstdCompressor().compress(b"\0" * n_bytes)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def test_decompression_bombs_are_refused_unopened() -> None:
    with pytest.raises(CorruptPatch, match="says that it holds"):
        Dense("w", bomb(2**24), (2, 2), torch.float32, "0" * 64)
    with pytest.raises(CorruptPatch, match="not packed"):
        Dense("w", torch.zeros(9, dtype=torch.uint8), (2, 2), torch.float32, "0" * 64)
    with pytest.raises(CorruptPatch, match="shape"):
        Dense("w", bomb(4), (2**30, 2**30), torch.float32, "0" * 64)
    huge = Dense("w", bomb(2**24), (2**22,), torch.float32, "0" * 64)
    with pytest.raises(ShapeMismatch):
        huge.edited(torch.zeros(4))
    base = torch.zeros(4)
    good = Dense.of("w", base, base + 1)
    longer = Dense("w", torch.cat([good.packed, good.packed]), (4,), torch.float32, good.reference)
    with pytest.raises(CorruptPatch):
        longer.edited(base)


DELTA = Delta(
    (
        LowRank("a.weight", torch.ones(2, 1), torch.ones(1, 2)),
        Sparse("b.weight", torch.tensor([1]), torch.ones(1)),
        Dense.of("c.weight", torch.zeros(2), torch.ones(2)),
    ),
    ("e1",),
)
DATA = write_patch(DELTA)


def test_every_byte_that_is_damaged_is_noticed() -> None:
    for position in range(len(DATA)):
        for flip in (1, 128):
            changed = bytearray(DATA)
            changed[position] ^= flip
            with pytest.raises(IntegrityError):
                read_patch(bytes(changed))


HEADERS: dict[str, Any] = {
    "no changes": {"edit_ids": []},
    "changes are no list": {"changes": {}, "edit_ids": []},
    "edit ids are no list": {"changes": [], "edit_ids": "e1"},
    "ids are no text": {"changes": [], "edit_ids": [1]},
    "a change is text": {"changes": ["x"], "edit_ids": []},
    "a form unknown": {"changes": [{"form": "cubic", "tensor": "w"}], "edit_ids": []},
    "a form missing": {"changes": [{"tensor": "w"}], "edit_ids": []},
    "a field more": {
        "changes": [{"form": "sparse", "tensor": "w", "x": 1}],
        "edit_ids": [],
    },
    "a dtype unknown": {
        "changes": [{"form": "dense", "tensor": "w", "dtype": [], "shape": [1], "reference": ""}],
        "edit_ids": [],
    },
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_headers_that_cannot_be_are_corrupt(header: Any) -> None:
    tensors = {"0.packed": torch.zeros(1, dtype=torch.uint8)}
    for given_ in ({}, tensors):
        if given_ or header.get("changes"):
            with pytest.raises(CorruptPatch):
                Delta.from_parts(json.loads(json.dumps(header)), given_)


def test_tensors_of_no_change_are_corrupt() -> None:
    header, tensors = DELTA.header(), DELTA.tensors()
    with pytest.raises(CorruptPatch):
        Delta.from_parts(header, {**tensors, "7.left": torch.ones(1)})
    with pytest.raises(CorruptPatch):
        Delta.from_parts(header, {**tensors, "0.more": torch.ones(1)})
    with pytest.raises(CorruptPatch):
        Delta.from_parts(header, {n: t for n, t in tensors.items() if n != "0.left"})
