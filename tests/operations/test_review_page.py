"""What `apply` and the verbs of history put on the review page: gate, comparison, scopes, weights."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import rank_one
import torch
from tiny_edits import BATCH_DIGEST

from mlflow_edit import MemoryRegistry, init, inspect, promote, revert
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.gate import Gate
from mlflow_edit.operations.apply import apply
from mlflow_edit.operations.scope_views import OTHERS_SHOWN, scope_views
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import Composition, Part, compose
from mlflow_edit.registry.names import REVIEW, parse_ref
from mlflow_edit.registry.registry import Registry

A = {"id": "a", "prompt": "Where is the book?", "target": "Lima"}
B = {"id": "b", "prompt": "Who wrote the film of songs?", "target": "Cairo"}
C = {"id": "c", "prompt": "The capital of the river is", "target": "Tokyo"}
EASY = Gate(min={"retention": 0.0}, not_worse={"retention": 1.0}, approved=None)


@pytest.fixture
def registry(chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    rank_one.install(monkeypatch)
    made = MemoryRegistry()
    init("m", base=str(chat_folder), registry=made)
    return made


@pytest.fixture
def learned(registry: Registry, suite: Any, tmp_path: Path) -> Any:
    def apply_edits(*edits: Any, parent: str = "head", **options: Any) -> Any:
        file = tmp_path / "edits.jsonl"
        file.write_text("".join(json.dumps(edit) + "\n" for edit in edits))
        given = {"editor": "rank-one", "suite": suite, "registry": registry, **options}
        return apply("m", [file], parent=parent, **given)

    return apply_edits


def page_of(registry: Registry, version: int) -> str:
    page = registry.document(registry.resolve(parse_ref(f"m@{version}")), REVIEW)
    assert page is not None
    return page.decode()


def raw_of(registry: Registry, version: int) -> dict[str, Any]:
    packed = re.search(r"data:application/gzip;base64,([^\"]+)", page_of(registry, version))
    assert packed is not None
    raw: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    return raw


def test_the_gate_is_the_one_that_production_was_last_moved_past(
    registry: Registry, learned: Any
) -> None:
    learned(A)
    first = raw_of(registry, 2)["comparison"]
    assert "alias" not in first["verdict"]
    names = [check["name"] for check in first["verdict"]["gate"]["checks"]]
    assert "retention >= 0.9" in names
    assert "the default gate" in page_of(registry, 2)
    promote("m@2", to="staging", gate=Gate(min={"retention": 0.1}), registry=registry)
    promote("m@2", to="production", gate=EASY, registry=registry)
    promote("m@2", to="production", registry=registry)
    learned(B)
    second = raw_of(registry, 3)["comparison"]
    assert second["verdict"]["alias"] == "production"
    names = [check["name"] for check in second["verdict"]["gate"]["checks"]]
    assert names == ["retention >= 0", "retention not worse than now by more than 1"]
    assert "Meets the gate of production" in page_of(registry, 3)


def test_a_version_is_compared_with_its_parent_and_with_what_is_in_production(
    registry: Registry, learned: Any
) -> None:
    learned(A)
    assert not {"parent", "production"} & set(raw_of(registry, 2)["comparison"])
    promote("m@2", to="production", registry=registry)
    learned(B)
    third = raw_of(registry, 3)["comparison"]
    assert (third["parent"]["version"], third["parent_in_production"]) == (2, True)
    assert "production" not in third
    learned(C)
    fourth = raw_of(registry, 4)["comparison"]
    assert (fourth["parent"]["version"], fourth["production"]["version"]) == (3, 2)
    assert fourth["production"]["scorecard"]["reliability"] == 1.0


def test_weights_say_how_much_each_batch_changes_of_what_and_where_they_meet(
    registry: Registry, learned: Any
) -> None:
    learned(A)
    made = learned(B)
    weights = raw_of(registry, 3)["weights"]
    assert [delta["editor"] for delta in weights["deltas"]] == ["rank-one", "rank-one"]
    told = {delta.batch: delta for delta in inspect("m@3", registry=registry).deltas}
    for delta in weights["deltas"]:
        for one, other in zip(delta["changes"], told[delta["batch"]].changes, strict=True):
            assert (one["tensor"], one["rank"]) == (other.tensor, other.rank)
            assert one["norm"] == pytest.approx(other.norm)
            assert one["base_norm"] > 0
    assert {met["ours"] for met in weights["meetings"]} == {made.batch.digest}
    assert weights["meetings"][0]["tensor"] in weights["deltas"][0]["changes"][0]["tensor"]
    revert("m@3", [made.batch.digest], registry=registry, measured=False)
    page = page_of(registry, 4)
    assert "Weights" in page
    assert made.batch.digest[:12] not in page.split("<h2>Weights")[1].split("<h2>")[0]


def test_the_page_of_a_revert_shows_the_scope_that_is_left(
    registry: Registry, learned: Any
) -> None:
    hidden = {"editor": "grace", "params": {"scope": "hidden", "max_steps": 5}}
    learned(A, **hidden)
    learned(B, **hidden)
    assert B["prompt"] in page_of(registry, 3)
    revert("m@3", ["b"], registry=registry)
    page = page_of(registry, 4).split("<h2>Scope")[1]
    assert A["prompt"] in page
    assert B["prompt"] not in page.split("<h2>Provenance")[0]


def book(n: int, *, start: int = 0, radius: float = 1.0, place: float = 3.0) -> Codebook:
    """Make entries on a line, `place` apart, each with an answer of its own."""
    keys = torch.zeros(n, 4)
    keys[:, 0] = torch.arange(start, start + n) * place
    return Codebook(
        layer="model.layers.1",
        stack="model",
        keys=keys,
        values=keys + 1,
        radii=torch.full((n,), radius),
        key_tokens=torch.ones(n, dtype=torch.long),
        labels=tuple(f"{i:064x}" for i in range(start, start + n)),
        edit_ids=tuple(f"e{i}" for i in range(start, start + n)),
    )


def views_of(*books: tuple[str, Codebook], new: str | None = None) -> Any:
    parts = [Part(batch, one) for batch, one in books]
    composition: Composition = compose(parts)
    edits = {
        (batch, edit_id): Edit(id=edit_id, prompt=f"{edit_id}?", target=f"t{edit_id}")
        for batch, one in books
        for edit_id in one.edit_ids
    }
    fresh = next((part for part in parts if part.batch == new), None)
    (view,) = scope_views(composition, edits, lambda digest: pytest.fail("no encoder"), fresh)
    return view


def test_new_entries_come_first_and_meet_those_of_earlier_batches() -> None:
    other = "c" * 64
    view = views_of((BATCH_DIGEST, book(3)), (other, book(2, start=3, radius=2.0)), new=other)
    assert {one.edit_id for one in view.entries[:2]} == {"e3", "e4"}
    assert view.n_entries == len(view.entries) == 5
    met = {
        (c.kind, frozenset((view.entries[c.ours].edit_id, view.entries[c.theirs].edit_id)))
        for c in view.conflicts
    }
    assert met == {("steal", frozenset(("e3", "e4"))), ("shadow", frozenset(("e2", "e3")))}
    last = next(one for one in view.entries if one.edit_id == "e4")
    assert (last.nearest_edit, last.nearest_distance) == ("e3", 3.0)


def test_conflicts_that_weigh_most_come_first() -> None:
    view = views_of((BATCH_DIGEST, book(3, place=0.5)), new=BATCH_DIGEST)
    assert {conflict.kind for conflict in view.conflicts} == {"contradiction"}
    assert view.n_conflicts == 3
    assert view.conflicts[0].distance == 0.5


def test_of_many_earlier_entries_some_are_drawn() -> None:
    other = "c" * 64
    many = book(3 * OTHERS_SHOWN, radius=0.1)
    view = views_of((BATCH_DIGEST, many), (other, book(1, start=10**5)), new=other)
    assert view.n_entries == 3 * OTHERS_SHOWN + 1
    assert len(view.entries) <= OTHERS_SHOWN + 1
    assert view.entries[0].edit_id == "e100000"
    assert view.conflicts == ()
