"""Hypothesis strategies for the values of mlflow-edit: edits, batches, manifests, codebooks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.patches.codebook import Codebook

settings.register_profile(
    "mledit",
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("mledit")

ANY_CHARACTER = st.characters()
READABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
remarks = st.text(READABLE, max_size=20)
texts = st.text(READABLE, min_size=1, max_size=20).filter(str.strip)
edit_ids = st.text(
    st.characters(categories=["L", "N"], include_characters="-_.:/#"), min_size=1, max_size=20
)
digests = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
numbers = st.floats(allow_nan=False, allow_infinity=False)
shares = st.floats(0, 1)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


probes = st.fixed_dictionaries(
    {"prompt": texts}, optional={"answers": st.lists(remarks, max_size=2), "kind": remarks}
)


@st.composite
def edit_fields(draw: st.DrawFn, number: int = 0) -> dict[str, Any]:
    """Draw the fields of an edit whose prompts no edit of another number has."""
    rephrases = draw(st.lists(texts, max_size=2))
    optional_fields = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "subject": texts,
                "old": remarks,
                "locality": st.lists(probes, max_size=2),
                "portability": st.lists(probes, max_size=2),
                "source": remarks,
                "author": remarks,
                "note": remarks,
                "kind": st.sampled_from(["fact", "label", "text"]),
            },
        )
    )
    return {
        "id": f"{draw(edit_ids)}{number}",
        "prompt": f"#{number} {draw(texts)}",
        "target": draw(texts),
        "rephrases": [f"#{number} {text}" for text in rephrases],
        **optional_fields,
    }


@st.composite
def batches(draw: st.DrawFn, min_size: int = 0, max_size: int = 4) -> EditBatch:
    n_edits = draw(st.integers(min_size, max_size))
    fields = [draw(edit_fields(number)) for number in range(n_edits)]
    for number, item in enumerate(fields):
        item["id"] = f"{number}-{item['id']}"
    return EditBatch(tuple(Edit.model_validate(item) for item in fields))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    names = draw(st.lists(digests, unique=True, max_size=4))
    batch_refs = [
        {
            "digest": name,
            "editor": draw(texts),
            "kind": "codebook",
            "n_edits": draw(st.integers(0, 100)),
            "bytes": draw(st.integers(0, 2**40)),
            "run_id": "0123456789abcdef",
        }
        for name in names
    ]
    excluded = draw(
        st.lists(st.tuples(st.sampled_from(names), edit_ids), unique=True, max_size=3)
        if names
        else st.just([])
    )
    return Manifest.model_validate(
        {
            "base": {"digest": draw(digests), "uri": draw(texts), "source": draw(remarks)},
            "parents": draw(st.lists(digests, max_size=2)),
            "batches": batch_refs,
            "exclusions": unique_exclusions(excluded),
            "author": draw(remarks),
            "created_at": draw(st.datetimes()).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27),
            "message": draw(remarks),
            "scorecard": draw(optional(digests)),
        }
    )


def unique_exclusions(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Make exclusions of (batch, edit), each once also after normalisation."""
    import unicodedata

    seen = {(batch, unicodedata.normalize("NFC", edit)) for batch, edit in pairs}
    return [{"batch": b, "edit": e, "reason": "reverted"} for b, e in sorted(seen)]


@st.composite
def scorecards(draw: st.DrawFn) -> Scorecard:
    bounded = {
        name: optional(shares)
        for name in Scorecard.model_fields
        if name not in ("format", "n_probes", "protocol", "locality_kl")
        and not name.startswith("perplexity")
    }
    return Scorecard(
        **draw(st.fixed_dictionaries(bounded)),
        perplexity=draw(optional(st.floats(1e-3, 1e9))),
        locality_kl=draw(optional(st.floats(0, 1e3))),
        n_probes=draw(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 99))),
        protocol=draw(
            st.dictionaries(st.sampled_from(["x", "y"]), remarks | numbers | st.booleans())
        ),
    )


@st.composite
def batch_records(draw: st.DrawFn) -> BatchRecord:
    scalars = remarks | st.integers() | numbers | st.booleans() | st.none()
    return BatchRecord(
        base=draw(digests),
        editor=draw(texts),
        params=draw(st.dictionaries(st.sampled_from(["layer", "seed", "p"]), scalars)),
        kind="codebook",
        n_edits=draw(st.integers(0, 99)),
        edits=draw(digests),
        patch=draw(digests),
    )


class Entry(NamedTuple):
    """One entry of a codebook of two dimensions; numbers are quarters, exact in float16."""

    key: tuple[float, float]
    value: tuple[float, float]
    radius: float
    token: int
    label: str
    edit_id: str


LABELS = tuple(letter * 64 for letter in "abc")
quarters = st.integers(-20, 20).map(lambda n: n / 4)
entries = st.builds(
    Entry,
    key=st.tuples(quarters, quarters),
    value=st.tuples(quarters, quarters),
    radius=st.integers(0, 12).map(lambda n: n / 4),
    token=st.integers(0, 1),
    label=st.sampled_from(LABELS),
    edit_id=st.sampled_from(["e1", "e2", "e3", "e4"]),
)


def codebook_of(
    items: Sequence[Entry],
    *,
    dtype: torch.dtype = torch.float32,
    layer: str = "stack.1",
    stack: str = "stack",
) -> Codebook:
    """Build a codebook of entries."""
    return Codebook(
        layer=layer,
        stack=stack,
        keys=torch.tensor([item.key for item in items], dtype=dtype).reshape(-1, 2),
        values=torch.tensor([item.value for item in items], dtype=dtype).reshape(-1, 2),
        radii=torch.tensor([item.radius for item in items], dtype=torch.float32),
        key_tokens=torch.tensor([item.token for item in items], dtype=torch.int64),
        labels=tuple(item.label for item in items),
        edit_ids=tuple(item.edit_id for item in items),
    )


@st.composite
def codebooks(draw: st.DrawFn, min_size: int = 0, max_size: int = 6) -> Codebook:
    items = draw(st.lists(entries, min_size=min_size, max_size=max_size))
    return codebook_of(items, dtype=draw(st.sampled_from([torch.float16, torch.float32])))
