"""Merging the weight deltas of two versions into one batch."""

from typing import Any

import pytest
import torch
from deltas import delta_batch, dense, low_rank, publish_batch, sparse
from registry_fixtures import hand_made_batch

from mlflow_edit import MemoryRegistry, init, load, merge, revert, verify
from mlflow_edit.core.contextual import contextual_of
from mlflow_edit.errors import ConflictError, InvalidInputError, InvalidParams
from mlflow_edit.patches.merging.catalog import NAMES, STRATEGIES
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry

DOWN, UP = "model.layers.1.mlp.down_proj.weight", "model.layers.2.mlp.up_proj.weight"
NORM = "model.norm.weight"


@pytest.fixture(params=["memory", "sqlite"])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "memory":
        return MemoryRegistry()
    found: Registry = request.getfixturevalue("sqlite_registry")
    return found


def fork(registry: Registry, folder: Any) -> Any:
    """Make `m@2` and, on top of it, the two sides `m@3` and `m@4`; both touch one weight."""
    root = init("m", base=str(folder), registry=registry)
    model = load_pinned(registry, registry.manifest(registry.versions("m")[0]).base).model
    common = delta_batch(root.base.digest, [low_rank(model, UP, seed=9)], [("Where?", "Oslo")])
    publish_batch(registry, "m@1", common)
    below = [common.record.digest]
    one = delta_batch(
        root.base.digest,
        [low_rank(model, DOWN, seed=1, rank=2), sparse(model, NORM)],
        [("Where is the film?", "Rome"), ("Same?", "Lima")],
        context=below,
    )
    two = delta_batch(
        root.base.digest,
        [low_rank(model, DOWN, seed=2), dense(model, UP)],
        [("Where is the river?", "Cairo"), ("Same?", "Lima")],
        context=below,
    )
    assert publish_batch(registry, "m@2", one).version == 3
    assert publish_batch(registry, "m@2", two).version == 4
    return common, one, two


def quick(registry: Registry) -> dict[str, Any]:
    return {"registry": registry, "author": "Ada", "measured": False}


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_a_strategy_makes_one_batch(registry: Registry, chat_folder: Any, strategy: str) -> None:
    common, one, two = fork(registry, chat_folder)
    there = merge("m@3", "m@4", strategy=strategy, **quick(registry))
    back = merge("m@4", "m@3", strategy=strategy, **quick(registry))
    assert there.state == back.state == "merged"
    assert there.content_digest == back.content_digest
    manifest = registry.manifest(registry.versions("m")[4])
    assert manifest.merging is not None
    assert manifest.merging.strategy == strategy
    assert set(manifest.merging.of) == {one.record.digest, two.record.digest}
    assert manifest.merging == there.merging == back.merging
    refs = {ref.digest: ref for ref in manifest.batches}
    assert set(refs) == {common.record.digest, manifest.merging.batch}
    made = registry.batch(refs[manifest.merging.batch])
    assert (made.record.editor, made.record.params["strategy"]) == ("merge", strategy)
    assert made.record.context == (common.record.digest,)
    assert contextual_of(manifest) == ()
    # edits that agree are one; ids that meet are told apart
    asked = sorted(edit.prompt for edit in made.edits)
    assert asked == ["Same?", "Where is the film?", "Where is the river?"]
    assert len({edit.id for edit in made.edits}) == 3
    assert manifest.weights is not None
    with load("m@5", registry=registry, device="cpu") as edited:
        assert edited.weights_digest == manifest.weights
    assert verify("m", registry=registry).ok


def test_a_single_edit_cannot_be_taken_out(chat_folder: Any) -> None:
    registry = MemoryRegistry()
    fork(registry, chat_folder)
    merge("m@3", "m@4", strategy="ties", **quick(registry))
    edit = next(e for b in registry.batches(registry.manifest(registry.versions("m")[-1])).values()
                for e in b.edits if e.prompt == "Where is the film?")  # fmt: skip
    with pytest.raises(InvalidInputError, match="made by a merge"):
        revert("m@5", [edit.id], **quick(registry))


def test_sum_is_the_union(registry: Registry, chat_folder: Any) -> None:
    common, one, two = fork(registry, chat_folder)
    union = merge("m@3", "m@4", **quick(registry))
    named = merge("m@4", "m@3", strategy="sum", **quick(registry))
    assert union.content_digest == named.content_digest
    assert union.merging is None
    assert union.version is not None
    digests = {ref.digest for ref in union.version.batches}
    assert digests == {b.record.digest for b in (common, one, two)}


def test_the_linear_mean_lies_half_way(chat_folder: Any) -> None:
    registry = MemoryRegistry()
    fork(registry, chat_folder)
    merge("m@3", "m@4", strategy="linear", **quick(registry))
    found = {}
    for version in (2, 3, 4, 5):
        with load(f"m@{version}", registry=registry, device="cpu") as edited:
            weights = edited.composition.weights
            own = edited.model.get_parameter(DOWN)
            found[version] = weights.materialise(DOWN, own) - own
    mean = (found[3] + found[4]) / 2
    torch.testing.assert_close(found[5], mean, rtol=1e-4, atol=1e-6)


def test_settings_make_another_batch(chat_folder: Any) -> None:
    registry = MemoryRegistry()
    fork(registry, chat_folder)
    digests = [
        merge(
            "m@3", "m@4", strategy="dare", seed=seed, density=density, **quick(registry)
        ).content_digest
        for seed, density in ((0, 0.5), (1, 0.5), (0, 0.9), (0, 0.5))
    ]
    assert len(set(digests[:3])) == 3
    assert digests[0] == digests[3]
    with pytest.raises(InvalidParams, match="no seed"):
        merge("m@3", "m@4", strategy="ties", seed=1, **quick(registry))
    with pytest.raises(InvalidParams, match="no merging strategy"):
        merge("m@3", "m@4", strategy="median", **quick(registry))


def test_where_only_one_side_has_deltas_they_are_taken(chat_folder: Any) -> None:
    registry = MemoryRegistry()
    root = init("m", base=str(chat_folder), registry=registry)
    model = load_pinned(registry, root.base).model
    delta = delta_batch(root.base.digest, [low_rank(model, DOWN)])
    book = hand_made_batch(root.base.digest, [("Who?", "Ada")], width=64)
    publish_batch(registry, "m@1", delta)
    publish_batch(registry, "m@1", book)
    made = merge("m@2", "m@3", strategy="ties", **quick(registry))
    assert made.version is not None
    assert {ref.digest for ref in made.version.batches} == {delta.record.digest, book.record.digest}
    assert made.merging is None


def test_what_a_side_had_replaced_stays_replaced(chat_folder: Any) -> None:
    registry = MemoryRegistry()
    root = init("m", base=str(chat_folder), registry=registry)
    model = load_pinned(registry, root.base).model
    book = hand_made_batch(root.base.digest, [("Where is the book?", "Rome")], width=64)
    publish_batch(registry, "m@1", book)
    one = delta_batch(
        root.base.digest, [low_rank(model, DOWN, seed=1)], [("Where is the book?", "Oslo")]
    )
    two = delta_batch(
        root.base.digest, [low_rank(model, UP, seed=2)], [("Where is the film?", "Oslo")]
    )
    publish_batch(registry, "m@2", one)
    publish_batch(registry, "m@2", two)
    made = merge("m@3", "m@4", strategy="nullspace", **quick(registry))
    manifest = registry.manifest(registry.versions("m")[-1])
    (item,) = manifest.exclusions
    assert made.merging is not None
    assert (item.batch, item.by) == (book.record.digest, made.merging.batch)
    gone = revert("m@5", [made.merging.batch[:10]], **quick(registry))
    assert {ref.digest for ref in gone.batches} == {book.record.digest}
    assert gone.n_edits == 1


def test_edits_that_cannot_be_in_one_batch(chat_folder: Any, monkeypatch: Any) -> None:
    registry = MemoryRegistry()
    root = init("m", base=str(chat_folder), registry=registry)
    model = load_pinned(registry, root.base).model
    for seed, (asked, target) in enumerate(
        [("Where is the book?", "Oslo"), ("Where is the book?", "Rome")]
    ):
        stored = delta_batch(
            root.base.digest, [low_rank(model, DOWN, seed=seed)], [(asked, target)]
        )
        publish_batch(registry, "m@1", stored)
    with pytest.raises(ConflictError, match="conflict"):
        merge("m@2", "m@3", strategy="ties", **quick(registry))
    settled = {"contradiction": "ours"}
    made = merge("m@2", "m@3", strategy="ties", choices=settled, **quick(registry))
    assert made.version is not None
    assert made.version.n_edits == 1


def test_every_strategy_is_measured(chat_folder: Any, suite: Any) -> None:
    registry = MemoryRegistry()
    fork(registry, chat_folder)
    tried = merge("m@3", "m@4", try_all=True, suite=suite, registry=registry, author="Ada")
    assert (tried.state, tried.version, len(registry.versions("m"))) == ("tried", None, 4)
    assert [one.strategy for one in tried.tried] == list(NAMES)
    assert len({one.content_digest for one in tried.tried}) == len(NAMES)
    assert all(one.scorecard.retention is not None for one in tried.tried)
    made = merge(
        "m@3", "m@4", try_all=True, strategy="ties", suite=suite, registry=registry, author="Ada",
        choices={"metric-regression": "accept"},
    )  # fmt: skip
    assert made.state == "merged"
    ties = next(one for one in made.tried if one.strategy == "ties")
    assert made.content_digest == ties.content_digest
