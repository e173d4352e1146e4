import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import READABLE, numbers

from mlflow_edit.core.digest import TensorBytes, canonical_json, json_digest, tensor_digest
from mlflow_edit.errors import InvalidInputError

names = st.text(READABLE, max_size=5)
keys = names.map(lambda text: unicodedata.normalize("NFC", text))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any) -> Any:
    """Turn every object's fields round."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_reading_and_writing_again_changes_nothing(value: Any) -> None:
    written = canonical_json(value)
    assert canonical_json(json.loads(written)) == written


@given(values)
def test_the_order_of_fields_never_matters(value: Any) -> None:
    assert canonical_json(shuffled(value)) == canonical_json(value)
    assert json_digest(shuffled(value)) == json_digest(value)


@given(values, values)
def test_different_values_have_different_bytes(one: Any, other: Any) -> None:
    one_bytes, other_bytes = canonical_json(one), canonical_json(other)
    read = [repr(json.loads(data)) for data in (one_bytes, other_bytes)]
    assert (one_bytes == other_bytes) == (read[0] == read[1])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": [1.0, True, None]}, b'{"a":[1.0,true,null],"b":1}'),
        ("e\u0301", '"é"'.encode()),
        ({"e\u0301": 1}, '{"é":1}'.encode()),
        (-0.0, b"0.0"),
        (0.1, b"0.1"),
        (1e22, b"1e+22"),
        ((1, 2), b"[1,2]"),
        ('"\\\n\u2028', '"\\"\\\\\\n\u2028"'.encode()),
    ],
)
def test_canonical_form(value: Any, expected: bytes) -> None:
    assert canonical_json(value) == expected


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        [-float("inf")],
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {"é": 1, "e\u0301": 2},
        b"bytes",
        {1, 2},
        object(),
        10**5000,
        deep(100_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        canonical_json(value)


def test_digests_of_numbers_tell_integers_from_floats() -> None:
    assert len({json_digest(value) for value in (1, 1.0, True, "1")}) == 4


TENSORS = {"a": TensorBytes("F32", (1,), b"1234"), "b": TensorBytes("F32", (1,), b"5678")}


def test_a_tensor_digest_is_of_the_set_of_tensors() -> None:
    turned = dict(reversed(TENSORS.items()))
    assert tensor_digest({"x": 1}, TENSORS) == tensor_digest({"x": 1}, turned)
    views = {name: t._replace(data=memoryview(t.data)) for name, t in TENSORS.items()}
    assert tensor_digest({"x": 1}, TENSORS) == tensor_digest({"x": 1}, views)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"a": TENSORS["a"]},
        {"a": TENSORS["b"], "b": TENSORS["a"]},
        {"a": TENSORS["a"], "c": TENSORS["b"]},
        {**TENSORS, "a": TensorBytes("I32", (1,), b"1234")},
        {**TENSORS, "a": TensorBytes("F32", (1, 1), b"1234")},
        {**TENSORS, "a": TensorBytes("F32", (1,), b"1235")},
        {**TENSORS, "c": TensorBytes("F32", (0,), b"")},
    ],
)
def test_a_tensor_digest_knows_names_types_shapes_and_bytes(other: dict[str, TensorBytes]) -> None:
    assert tensor_digest({}, other) != tensor_digest({}, TENSORS)
    assert tensor_digest({}, TENSORS) != tensor_digest({"x": 1}, TENSORS)
