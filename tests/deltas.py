"""Versions whose deltas were made by hand: nothing is learned."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.measuring import Trial
from mlflow_edit.operations.next_version import NextVersion, ParentVersion
from mlflow_edit.operations.publication import Publication
from mlflow_edit.operations.reporter import Silent
from mlflow_edit.patches.changes import Change, Dense, LowRank, Sparse
from mlflow_edit.patches.composition import compose
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.substitution import parameter
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch


def low_rank(model: Any, tensor: str, *, seed: int = 0, rank: int = 1, **more: Any) -> LowRank:
    """Make a change of a weight, of about a tenth of its size."""
    weight = parameter(model, tensor).detach()
    draw = torch.Generator().manual_seed(seed)
    size = 0.3 * float(weight.float().square().mean().sqrt()) ** 0.5
    left = torch.randn(weight.shape[0], rank, generator=draw) * size
    right = torch.randn(rank, weight.shape[1], generator=draw) * size
    return LowRank(tensor, left, right, **more)


def dense(model: Any, tensor: str, *, seed: int = 0) -> Dense:
    """Make a change of all elements of a weight."""
    weight = parameter(model, tensor).detach()
    draw = torch.Generator().manual_seed(seed)
    added = torch.randn(weight.shape, generator=draw) * 0.01
    return Dense.of(tensor, weight, (weight.float() + added).to(weight.dtype))


def sparse(model: Any, tensor: str, *, seed: int = 0, n: int = 9) -> Sparse:
    """Make a change of a few elements of a weight."""
    weight = parameter(model, tensor).detach()
    draw = torch.Generator().manual_seed(seed)
    places = torch.randperm(weight.numel(), generator=draw)[:n].sort().values
    return Sparse(tensor, places, torch.randn(n, generator=draw) * 0.1)


def delta_batch(
    base: str,
    changes: Sequence[Change],
    edits: Sequence[tuple[str, str]] = (("Where is the book?", "Oslo"),),
    *,
    context: Sequence[str] = (),
) -> StoredBatch:
    """Make a batch that adds some changes."""
    batch = EditBatch(tuple(Edit(id=f"e{i}", prompt=p, target=t) for i, (p, t) in enumerate(edits)))
    patch = Delta(tuple(changes), tuple(edit.id for edit in batch))
    return StoredBatch.of(
        base=base, editor="memit", params={}, edits=batch, patch=patch, context=context
    )


def publish_batch(registry: Registry, ref: str, stored: StoredBatch) -> VersionInfo:
    """Register a version over `ref` that holds one batch more, its weights named as `apply` does."""
    before = ParentVersion.read(registry, parse_ref(ref))
    after = NextVersion.of(before, stored)
    base = load_pinned(registry, before.manifest.base, device="cpu")
    with EditedModel(base, compose(after.parts())) as edited:
        trial = Trial(weights=edited.weights_digest)
    published = Publication(
        name=before.info.name,
        verb="apply",
        base=before.manifest.base,
        parents=(before.info,),
        content=after.content,
        trial=trial,
        author="Ada",
        message="by hand",
        started=time.time(),
        stored=stored,
        known=before.manifest.batches,
    ).publish(registry, Silent())
    return published.info
