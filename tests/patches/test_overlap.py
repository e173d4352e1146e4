"""Where scopes meet: the kind of overlap against what lookups do."""

import pytest
import torch
from hypothesis import given
from strategies import LABELS, Entry, codebook_of, codebooks

from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.overlap import overlaps


def at(x: float, radius: float, label: int = 0, token: int = 0) -> Codebook:
    return codebook_of([Entry((x, 0.0), (0.0, 0.0), radius, token, LABELS[label], f"e{label}")])


@pytest.mark.parametrize(
    ("distance", "ours", "theirs", "kind"),
    [
        (0.0, 1.0, 1.0, "contradiction"),
        (1.0, 1.0, 0.5, "contradiction"),
        (1.5, 1.0, 1.0, "steal"),
        (1.75, 1.0, 0.5, "shadow"),
        (2.0, 1.0, 1.0, None),
        (2.0, 1.0, 0.5, None),
    ],
)
def test_kinds_by_distance(distance: float, ours: float, theirs: float, kind: str | None) -> None:
    a, b = at(0.0, ours), at(distance, theirs, label=1)
    found = [overlap.kind for overlap in overlaps(a, b)]
    assert found == ([kind] if kind else [])
    assert [overlap.kind for overlap in overlaps(b, a)] == found


def test_agreement_other_tokens_and_other_layers_do_not_meet() -> None:
    assert not list(overlaps(at(0.0, 1.0), at(0.5, 1.0)))
    assert not list(overlaps(at(0.0, 1.0), at(0.5, 1.0, label=1, token=1)))
    other = codebook_of([Entry((0.5, 0.0), (0.0, 0.0), 1.0, 0, LABELS[1], "e1")], layer="stack.2")
    assert not list(overlaps(at(0.0, 1.0), other))


@given(codebooks(), codebooks())
def test_where_nothing_overlaps_no_radius_changes_but_by_agreement(
    ours: Codebook, theirs: Codebook
) -> None:
    found = list(overlaps(ours, theirs))
    united = ours.union(theirs)
    places = {digest: i for i, digest in enumerate(united.entry_digests)}
    shrunk = {
        i
        for i, digest in enumerate(ours.entry_digests)
        if united.effective_radii[places[digest]] < ours.effective_radii[i]
    }
    told = {overlap.ours for overlap in found}
    grown = ours.effective_radii > ours.radii  # by agreement: the ball reached past its request
    assert {i for i in shrunk if not grown[i]} <= told


@given(codebooks(max_size=6), codebooks(max_size=6))
def test_overlaps_are_symmetric(ours: Codebook, theirs: Codebook) -> None:
    there = {(o.kind, o.ours, o.theirs) for o in overlaps(ours, theirs)}
    back = {(o.kind, o.theirs, o.ours) for o in overlaps(theirs, ours)}
    assert there == back


def test_sixteen_by_ten_thousand_entries() -> None:
    draw = torch.Generator().manual_seed(0)

    def book(n: int, label: str) -> Codebook:
        return Codebook(
            layer="l", stack="s", keys=torch.randn(n, 64, generator=draw),
            values=torch.zeros(n, 64), radii=torch.full((n,), 0.1),
            key_tokens=torch.zeros(n, dtype=torch.long), labels=(label,) * n,
            edit_ids=tuple(f"{i}" for i in range(n)),
        )  # fmt: skip

    few, many = book(16, LABELS[0]), book(2000, LABELS[1])
    assert not list(overlaps(few, many))
    near = few.keys[3] + 0.01
    hit = Codebook(
        layer="l", stack="s", keys=near[None], values=torch.zeros(1, 64), radii=torch.tensor([0.1]),
        key_tokens=torch.zeros(1, dtype=torch.long), labels=(LABELS[1],), edit_ids=("x",),
    )  # fmt: skip
    [found] = overlaps(few, many.union(hit))
    assert (found.ours, found.kind) == (3, "contradiction")
