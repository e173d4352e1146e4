"""Name content by what it means: canonical JSON and logical tensor content, never file bytes."""

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow_edit.errors import InvalidInputError

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class TensorBytes(NamedTuple):
    """A tensor as the digest sees it: safetensors dtype name, shape, little-endian bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def canonical_json(value: Any) -> bytes:
    """Serialise to the one byte string that stands for `value`.

    Sorted keys, no white space, UTF-8, every string in Unicode form NFC, floats as Python's
    shortest round-trip form, no negative zero. Laws: values that are equal, type by type, give
    equal bytes; `canonical_json(json.loads(b)) == b`.

    Raises:
        InvalidInputError: the value holds NaN, an infinity, a lone surrogate, an integer of
            thousands of digits, two keys of one object that are the same text, a type that is not
            JSON, or is nested too deeply.
    """
    try:
        return _ENCODER.encode(_normalised(value)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"not representable as canonical JSON: {error}") from error


def json_digest(value: Any) -> str:
    """Return the sha-256 of `canonical_json(value)`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def bytes_digest(data: bytes) -> str:
    """Return the sha-256 of raw bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def tensor_digest(header: Mapping[str, Any], tensors: Mapping[str, TensorBytes]) -> str:
    """Return the digest of a header and named tensors, whatever file they came from.

    Computes sha256(canonical(header) · for each name in sorted order: canonical([name, dtype,
    shape, n_bytes]) · bytes), each JSON part followed by a newline.
    """
    sha = hashlib.sha256(canonical_json(header) + b"\n")
    for name in sorted(tensors):
        tensor = tensors[name]
        size = len(memoryview(tensor.data).cast("B")) if len(tensor.data) else 0
        sha.update(canonical_json([name, tensor.dtype, list(tensor.shape), size]) + b"\n")
        sha.update(tensor.data)
    return sha.hexdigest()


def _normalised(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInputError(f"{value} has no canonical form")
        return value + 0.0  # -0.0 and 0.0 are equal
    if isinstance(value, Mapping):
        return _normalised_object(value)
    if isinstance(value, list | tuple):
        return [_normalised(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not JSON")


def _normalised_object(value: Mapping[Any, Any]) -> dict[str, Any]:
    items = {_key(key): _normalised(item) for key, item in value.items()}
    if len(items) != len(value):
        raise ValueError("two keys of one object are the same text in Unicode form NFC")
    return items


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"object key {key!r} is not a string")
    return key if key.isascii() else unicodedata.normalize("NFC", key)
