"""Manifests, scorecards and batch records: written with their digest, refused when changed."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from strategies import batch_records, digests, manifests, scorecards

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.digest import canonical_json, json_digest
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.scorecard import HEADLINE, Scorecard, changes, mean, share
from mlflow_edit.errors import DigestMismatch, IntegrityError, UnsupportedFormat

A, B, C = (letter * 64 for letter in "abc")


def batch_ref(digest: str, **fields: Any) -> dict[str, Any]:
    made = {
        "digest": digest,
        "editor": "grace",
        "kind": "codebook",
        "n_edits": 3,
        "bytes": 9,
        "run_id": "r1",
    }
    return {**made, **fields}


def manifest(**fields: Any) -> Manifest:
    made = {
        "base": {"digest": A, "uri": "models:/base/1"},
        "batches": [batch_ref(B)],
        "exclusions": [{"batch": B, "edit": "e1", "reason": "reverted"}],
        "created_at": "2026-01-31T12:00:00.123456Z",
        "author": "Zoé",
    }
    return Manifest.model_validate({**made, **fields})


def scorecard() -> Scorecard:
    return Scorecard(
        reliability=1.0,
        generality=0.5,
        perplexity=12.25,
        n_probes={"reliability": 3},
        protocol={"decoding": "greedy", "max_new_tokens": 32, "quick": False, "t": 0.5},
    )


def record() -> BatchRecord:
    return BatchRecord(
        base=A,
        editor="grace",
        params={"layer": 12, "rate": 0.5, "key": "last", "seed": None},
        kind="codebook",
        n_edits=3,
        edits=B,
        patch=C,
    )


SEALED: list[Any] = [manifest(), scorecard(), record()]
names = [type(value).__name__ for value in SEALED]


@given(st.one_of(manifests(), scorecards(), batch_records()))
def test_what_is_written_is_read_back(value: Any) -> None:
    data = value.to_bytes()
    assert type(value).from_bytes(data) == value
    assert type(value).from_bytes(data, digest=value.digest) == value
    assert type(value).from_bytes(data).to_bytes() == data
    assert json.loads(data)["digest"] == value.digest


@pytest.mark.parametrize("value", SEALED, ids=names)
def test_every_single_bit_flip_is_refused(value: Any) -> None:
    data = value.to_bytes()
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(IntegrityError):
                type(value).from_bytes(bytes(changed))


@pytest.mark.parametrize("value", SEALED, ids=names)
def test_every_truncation_and_addition_is_refused(value: Any) -> None:
    data = value.to_bytes()
    for length in range(len(data)):
        with pytest.raises(IntegrityError):
            type(value).from_bytes(data[:length])
    for extra in (b" ", b"\n", b"\0", b"{}", data):
        for changed in (data + extra, extra + data):
            with pytest.raises(IntegrityError):
                type(value).from_bytes(changed)


@pytest.mark.parametrize("value", SEALED, ids=names)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_other_encodings_are_refused(value: Any, encoding: str) -> None:
    with pytest.raises(IntegrityError):
        type(value).from_bytes(value.to_bytes().decode().encode(encoding))


@pytest.mark.parametrize("value", SEALED, ids=names)
def test_another_digest_than_the_expected_is_refused(value: Any) -> None:
    with pytest.raises(DigestMismatch, match="expected 000000000000"):
        type(value).from_bytes(value.to_bytes(), digest="0" * 64)


def resealed(value: Any, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Change the fields and write them with a digest that fits."""
    fields = json.loads(value.to_bytes())
    del fields["digest"]
    change(fields)
    return canonical_json({**fields, "digest": json_digest(fields)})


CHANGES: list[tuple[Any, Callable[[dict[str, Any]], Any]]] = [
    *((value, lambda f: f.update(extra=1)) for value in SEALED),
    *((value, lambda f: f.update(base=7, reliability="x")) for value in SEALED),
    (manifest(), lambda f: f["batches"].append(f["batches"][0])),
    (manifest(), lambda f: f["batches"][0].update(n_edits=-1)),
    (manifest(), lambda f: f["batches"][0].update(n_edits="3")),
    (manifest(), lambda f: f["batches"][0].update(n_edits=3.0)),
    (manifest(), lambda f: f["batches"].insert(0, batch_ref(C))),
    (manifest(), lambda f: f["exclusions"][0].update(batch=C)),
    (manifest(), lambda f: f.update(parents=["xyz"])),
    (manifest(), lambda f: f.update(parents=None)),
    (manifest(), lambda f: f.update(scorecard=None)),
    (manifest(), lambda f: f.update(author="a\0")),
    (scorecard(), lambda f: f.update(reliability=2.0)),
    (scorecard(), lambda f: f.update(reliability=1)),
    (scorecard(), lambda f: f.update(portability=None)),
    (scorecard(), lambda f: f.pop("format")),
    (scorecard(), lambda f: f.update(perplexity=0.0)),
    (scorecard(), lambda f: f["n_probes"].update(reliability=3.0)),
    (record(), lambda f: f.update(n_edits="3")),
    (record(), lambda f: f.update(kind="pickle")),
    (record(), lambda f: f["params"].update(layer=[12])),
    (record(), lambda f: f["params"].update({"": 12})),
]


@pytest.mark.parametrize(("value", "change"), CHANGES)
def test_a_file_that_does_not_mean_itself_is_refused(value: Any, change: Any) -> None:
    data = resealed(value, change)
    with pytest.raises(IntegrityError):
        type(value).from_bytes(data)


@pytest.mark.parametrize("value", SEALED, ids=names)
@pytest.mark.parametrize(
    "format", ["mledit.manifest/2", "mledit.scorecard/9", None, 7, [[1] * 9999]]
)
def test_another_format_says_which_release_to_install(value: Any, format: Any) -> None:
    data = resealed(value, lambda fields: fields.update(format=format))
    with pytest.raises(UnsupportedFormat) as caught:
        type(value).from_bytes(data)
    assert "newer" in (caught.value.hint or "")
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("value", SEALED, ids=names)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"7",
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"1" * 10_000,
        b'{"format":"\\ud800"}',
        b'{"format":1,"format":2}',
        b" " * 100,
        b"\x80\x03K\x01.",
    ],
)
def test_what_is_no_manifest_is_refused(value: Any, data: bytes) -> None:
    with pytest.raises(IntegrityError):
        type(value).from_bytes(data)


@settings(max_examples=150)
@given(
    st.binary(max_size=80) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))
)
def test_random_bytes_are_refused(data: bytes) -> None:
    for value in SEALED:
        with pytest.raises(IntegrityError):
            type(value).from_bytes(data)


# manifests


@given(manifests(), st.randoms(use_true_random=False))
def test_the_order_of_batches_and_exclusions_never_matters(made: Manifest, random: Any) -> None:
    fields = made.model_dump()
    for name in ("batches", "exclusions"):
        fields[name] = random.sample(fields[name], len(fields[name]))
    turned = Manifest.model_validate(fields)
    assert turned == made
    assert turned.content_digest == made.content_digest
    assert turned.digest == made.digest


@given(manifests(), digests)
def test_content_is_what_a_version_does_not_who_made_it(made: Manifest, other: str) -> None:
    assume(other != made.scorecard)
    for change in (
        {"author": f"{made.author}x"},
        {"message": f"{made.message}x"},
        {"created_at": "2001-01-01T00:00:00Z"},
        {"parents": (other, other, other)},
        {"scorecard": other},
        {"base": made.base.model_copy(update={"uri": "elsewhere", "source": "elsewhere"})},
    ):
        changed = made.model_copy(update=change)
        assert changed.content_digest == made.content_digest
        assert changed.digest != made.digest


def test_content_knows_base_batches_and_exclusions() -> None:
    others = [
        manifest(base={"digest": C, "uri": "models:/base/1"}),
        manifest(batches=[], exclusions=[]),
        manifest(exclusions=[]),
        manifest(batches=[batch_ref(B), batch_ref(C)]),
        manifest(exclusions=[{"batch": B, "edit": "e2", "reason": "reverted"}]),
    ]
    assert len({made.content_digest for made in [manifest(), *others]}) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"batches": [batch_ref(B), batch_ref(B, n_edits=4)]},
        {"batches": []},
        {
            "exclusions": [
                {"batch": B, "edit": "e1", "reason": r} for r in ("reverted", "superseded")
            ]
        },
        {"exclusions": [{"batch": B, "edit": e, "reason": "reverted"} for e in ("é", "e\u0301")]},
        {"created_at": "2026-02-31T12:00:00Z"},
        {"created_at": "2026-01-31T25:00:00Z"},
        {"created_at": "2026-01-31"},
        {"created_at": "٢٠٢٦-01-31T12:00:00Z"},
        {"author": "\ud800"},
        {"message": "x" * 20_001},
        {"format": "mledit.manifest/2"},
        {"surplus": 1},
        {"parents": ["A" * 64]},
        {"parents": [A + "\n"]},
    ],
)
def test_manifests_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**change)


def test_a_manifest_counts_the_edits_in_force() -> None:
    assert manifest().n_edits == 2
    assert manifest().excluded(B) == {"e1"}
    assert manifest().excluded(C) == frozenset()


def test_a_version_of_many_batches_costs_little() -> None:
    refs = [batch_ref(f"{i:064x}", run_id="0" * 32) for i in range(100)]
    assert len(manifest(batches=refs, exclusions=[]).to_bytes()) < 25_000


def test_a_record_digest_knows_every_field() -> None:
    fields = record().model_dump()
    for name, value in {
        "base": C,
        "editor": "x",
        "params": {},
        "n_edits": 4,
        "edits": C,
        "patch": A,
        "kind": "delta",
    }.items():
        assert BatchRecord.model_validate({**fields, name: value}).digest != record().digest


# scorecards


def test_a_metric_without_probes_is_null_never_zero() -> None:
    empty = Scorecard()
    assert empty.metrics() == {}
    read = Scorecard.from_bytes(empty.to_bytes())
    assert all(getattr(read, name) is None for name in HEADLINE)
    assert json.loads(empty.to_bytes()).keys() == {"format", "digest"}
    assert Scorecard(reliability=0.0).metrics() == {"reliability": 0.0}
    assert Scorecard(reliability=0.0).digest != empty.digest


@given(scorecards())
def test_metrics_are_the_numbers_that_were_measured(made: Scorecard) -> None:
    measured = made.metrics()
    assert not set(measured) & {"format", "n_probes", "protocol"}
    for name, value in measured.items():
        assert getattr(made, name) == value
    missing = set(Scorecard.model_fields) - set(measured) - {"format", "n_probes", "protocol"}
    assert all(getattr(made, name) is None for name in missing)


@pytest.mark.parametrize(
    "bad",
    [
        {"reliability": 1.01},
        {"reliability": -0.01},
        {"reliability": float("nan")},
        {"perplexity": 0},
        {"perplexity_ratio": -1},
        {"locality_kl": -1},
        {"locality_kl": float("nan")},
        {"protocol": {"x": None}},
        {"perplexity": float("inf")},
        {"protocol": {"x": float("nan")}},
    ],
)
def test_numbers_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Scorecard(**bad)


def test_shares_and_means_of_nothing_are_none() -> None:
    assert share([]) is None
    assert mean([]) is None
    assert share([True, False, False, True]) == 0.5
    assert share([False]) == 0.0
    assert mean([1.0, 2.0]) == 1.5


def test_changes_are_of_what_both_have() -> None:
    assert changes({"a": 1.0, "b": 2.0}, {"b": 1.5, "c": 9.0}) == {"b": -0.5}
