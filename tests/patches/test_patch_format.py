import json
import struct
import time
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from strategies import Entry, codebook_of, codebooks
from torch import Tensor

from mlflow_edit.core.digest import TensorBytes, canonical_json, tensor_digest
from mlflow_edit.errors import CorruptPatch, DigestMismatch, IntegrityError, UnsupportedFormat
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.format import PATCH_FORMAT, patch_digest, read_patch, write_patch

A, B = "a" * 64, "b" * 64
BOOK = codebook_of(
    [Entry((1, 2), (3, 4), 0.5, 7, A, "e1"), Entry((5, 6), (7, 8), 0.25, 9, B, "é2")]
)
DATA = write_patch(BOOK)
NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.bool: "BOOL",
}


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def sealed(
    tensors: dict[str, Tensor] | None = None,
    *,
    header: Any = None,
    kind: Any = "codebook",
    format: Any = PATCH_FORMAT,
    more: dict[str, str] | None = None,
) -> bytes:
    """Write a file whose digest fits, whatever it holds."""
    tensors = BOOK.tensors() if tensors is None else tensors
    fields = {"format": format, "kind": kind, "header": BOOK.header() if header is None else header}
    content = {
        name: TensorBytes(
            NAMES[t.dtype],
            tuple(t.shape),
            bytes(t.contiguous().flatten().view(torch.uint8).numpy()),
        )
        for name, t in tensors.items()
    }
    text = canonical_json({**fields, "digest": tensor_digest(fields, content)}).decode()
    return save(tensors, metadata={"mledit": text, **(more or {})})


def refused(data: bytes, **kwargs: Any) -> IntegrityError:
    began = time.perf_counter()
    with pytest.raises(IntegrityError) as caught:
        read_patch(data, **kwargs)
    assert time.perf_counter() - began < 1
    return caught.value


@given(codebooks())
def test_what_is_written_is_read_back(book: Codebook) -> None:
    data = write_patch(book)
    for read in (read_patch(data), read_patch(data, digest=patch_digest(book))):
        assert isinstance(read, Codebook)
        assert read == book
        assert patch_digest(read) == patch_digest(book)
        for name, tensor in read.tensors().items():
            assert torch.equal(tensor, book.tensors()[name])
            assert tensor.dtype == book.tensors()[name].dtype
    assert write_patch(read) == data


def test_the_helper_writes_what_the_package_writes() -> None:
    assert sealed() == DATA


def test_tensors_that_share_memory_are_written() -> None:
    shared = torch.ones(2, 2)
    book = Codebook(
        layer="l",
        stack="s",
        keys=shared,
        values=shared,
        radii=torch.ones(2),
        key_tokens=torch.tensor([1, 2]),
        labels=(A, A),
        edit_ids=("e1", "e2"),
    )
    assert read_patch(write_patch(book)) == book


def test_every_single_bit_flip_is_refused() -> None:
    assert len(DATA) * 8 < 12_000
    for position in range(len(DATA)):
        for bit in range(8):
            changed = bytearray(DATA)
            changed[position] ^= 1 << bit
            with pytest.raises(IntegrityError):
                read_patch(bytes(changed))


def test_every_truncation_is_refused() -> None:
    for length in range(len(DATA)):
        with pytest.raises(IntegrityError):
            read_patch(DATA[:length])


@pytest.mark.parametrize("extra", [b"\0", b" ", DATA])
def test_additions_are_refused(extra: bytes) -> None:
    refused(DATA + extra)
    refused(extra + DATA)


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"\x80\x03K\x01.")
def test_random_bytes_are_refused(data: bytes) -> None:
    refused(data)
    refused(struct.pack("<Q", len(data)) + data)


@settings(max_examples=300)
@given(st.data())
def test_damage_of_any_kind_is_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(DATA) - 1))
    cut = data.draw(st.integers(0, 20))
    changed = DATA[:at] + data.draw(st.binary(max_size=20)) + DATA[at + cut :]
    if changed != DATA:
        refused(changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(
    JSON, st.sampled_from(["", "keys", "__metadata__", "dtype", "shape", "data_offsets", "mledit"])
)
def test_any_header_is_refused(value: Any, place: str) -> None:
    header, body = parts(DATA)
    if place in ("dtype", "shape", "data_offsets"):
        header["keys"][place] = value
    elif place == "mledit":
        header["__metadata__"][place] = value
    elif place:
        header[place] = value
    else:
        header = value
    if header != parts(DATA)[0]:
        refused(joined(header, body))


@settings(max_examples=200)
@given(JSON, st.sampled_from(["format", "kind", "header", "digest", "layer", "labels", "edit_ids"]))
def test_any_sealed_metadata_is_refused(value: Any, place: str) -> None:
    header, body = parts(DATA)
    fields = json.loads(header["__metadata__"]["mledit"])
    target = fields if place in fields else fields["header"]
    if target[place] == value or (place == "layer" and isinstance(value, str) and value):
        return
    target[place] = value
    header["__metadata__"]["mledit"] = json.dumps(
        fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    refused(joined(header, body))


ARRAYS = BOOK.tensors()


@pytest.mark.parametrize(
    "change",
    [
        {"keys": torch.full((2, 2), torch.nan)},
        {"values": torch.full((2, 2), torch.inf)},
        {"radii": torch.tensor([1.0, -1.0])},
        {"radii": torch.tensor([1.0, torch.nan])},
        {"radii": torch.tensor(1.0)},
        {"key_tokens": torch.tensor(1)},
        {"key_tokens": torch.tensor([1, -1])},
        {"keys": torch.zeros(2)},
        {"keys": torch.zeros(3, 2)},
        {"keys": torch.zeros(2, 2, 2)},
        {"keys": torch.zeros(2, 2, dtype=torch.float64)},
        {"keys": torch.zeros(2, 2, dtype=torch.bfloat16)},
        {"values": torch.zeros(2, 2, dtype=torch.int32)},
        {"key_tokens": torch.tensor([True, False])},
        {"radii": torch.ones(3)},
        {"extra": torch.ones(1)},
    ],
    ids=lambda change: "-".join(change),
)
def test_arrays_that_cannot_be_are_corrupt_though_the_digest_fits(
    change: dict[str, Tensor],
) -> None:
    assert isinstance(refused(sealed({**ARRAYS, **change})), CorruptPatch)


@pytest.mark.parametrize("name", list(ARRAYS))
def test_arrays_must_be_there(name: str) -> None:
    assert isinstance(refused(sealed({n: t for n, t in ARRAYS.items() if n != name})), CorruptPatch)


def test_entries_out_of_order_are_refused() -> None:
    turned = {name: tensor.flip(0).contiguous() for name, tensor in ARRAYS.items()}
    header = {**BOOK.header(), **{n: BOOK.header()[n][::-1] for n in ("labels", "edit_ids")}}
    assert isinstance(refused(sealed(turned, header=header)), CorruptPatch)


def test_entries_of_one_edit_out_of_order_are_refused() -> None:
    one = Entry((1, 2), (3, 4), 0.5, 7, A, "e1")
    book = codebook_of([one, one._replace(token=9)])
    turned = {name: tensor.flip(0).contiguous() for name, tensor in book.tensors().items()}
    assert read_patch(sealed(book.tensors(), header=book.header())) == book
    assert isinstance(refused(sealed(turned, header=book.header())), CorruptPatch)


def test_an_entry_twice_is_not_in_canonical_order() -> None:
    doubled = {name: torch.cat([t[:1], t[:1]]) for name, t in ARRAYS.items()}
    header = {**BOOK.header(), "labels": [A, A], "edit_ids": ["e1", "e1"]}
    assert isinstance(refused(sealed(doubled, header=header)), CorruptPatch)


@pytest.mark.parametrize("kind", ["memories", "pickle", None, 7, [], {}, [["x"] * 9999]])
def test_unknown_kinds_are_unsupported(kind: Any) -> None:
    error = refused(sealed(kind=kind))
    assert isinstance(error, UnsupportedFormat)
    assert len(error.message) < 400


@pytest.mark.parametrize("format", ["mledit.patch/2", "other", None, 7, []])
def test_a_newer_format_says_which_release_to_install(format: Any) -> None:
    error = refused(sealed(format=format))
    assert isinstance(error, UnsupportedFormat)
    assert "newer" in (error.hint or "")


def test_another_digest_than_the_expected_is_refused() -> None:
    assert isinstance(refused(DATA, digest="0" * 64), DigestMismatch)
    assert read_patch(DATA, digest=patch_digest(BOOK)) == BOOK


def test_more_metadata_is_refused() -> None:
    refused(sealed(more={"comment": "x"}))
    refused(save(BOOK.tensors()))
    refused(save(BOOK.tensors(), metadata={"other": "x"}))


def test_repeated_and_unknown_fields_are_refused() -> None:
    header, body = parts(DATA)
    text = json.dumps(header)
    refused(joined((text[:-1] + ', "keys": ' + json.dumps(header["keys"]) + "}").encode(), body))
    refused(joined({**header, "keys": {**header["keys"], "more": 1}}, body))


@pytest.mark.parametrize("size", [0, 1, 2, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, len(DATA)])
def test_a_header_size_that_lies_is_refused(size: int) -> None:
    refused(struct.pack("<Q", size) + DATA[8:])


@pytest.mark.parametrize(
    "field",
    [
        {"shape": [2**40, 2**20]},
        {"shape": [2**63, 0]},
        {"shape": [2**64, 1]},
        {"shape": [-1, 2]},
        {"shape": [0, 2**62]},
        {"shape": [1] * 100_000},
        {"data_offsets": [0, 2**40]},
        {"data_offsets": [0, 2**64]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [-16, 0]},
        {"data_offsets": [0]},
        {"dtype": "F8_E4M3"},
        {"dtype": "F999"},
    ],
    ids=str,
)
def test_sizes_that_lie_are_refused_at_once(field: dict[str, Any]) -> None:
    header, body = parts(DATA)
    for name in ARRAYS:
        refused(joined({**header, name: {**header[name], **field}}, body))


def test_a_shape_of_nothing_with_huge_width_is_refused_or_empty() -> None:
    for width in (2**31, 2**62):
        text = json.dumps(
            {
                "__metadata__": parts(DATA)[0]["__metadata__"],
                "keys": {"dtype": "F32", "shape": [0, width], "data_offsets": [0, 0]},
            }
        )
        refused(joined(text.encode(), b""))


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b'{"__metadata__":' * 50_000])
def test_deep_headers_are_refused(text: bytes) -> None:
    refused(joined(text, b""))


def test_a_deep_metadata_is_refused() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    refused(joined({"__metadata__": {"mledit": deep}}, b""))
    fields = f'{{"digest":"x","format":"{PATCH_FORMAT}","header":{{"a":{deep}}},"kind":"codebook"}}'
    refused(joined({"__metadata__": {"mledit": fields}}, b""))


def test_a_patch_costs_little_more_than_its_arrays() -> None:
    book = Codebook(
        layer="model.layers.12",
        stack="model",
        keys=torch.randn(32, 64),
        values=torch.randn(32, 64),
        radii=torch.ones(32),
        key_tokens=torch.arange(32),
        labels=(A,) * 32,
        edit_ids=tuple(f"e-{i:012x}" for i in range(32)),
    )
    assert len(write_patch(book)) < 2 * 32 * 64 * 4 + 32 * 120 + 1_000
