"""Files of format 1 are read for ever: these were written by the release that introduced it."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
import write_golden

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.edit_file import parse_edits
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.format import patch_digest, read_patch
from mlflow_edit.patches.memory import GatedMemory, Memory
from mlflow_edit.patches.weights import Weights

V1 = Path(__file__).parent / "v1"

# Never change these: a digest that changes here changes in every registry.
EDITS = "8b9a3e8857a78a95ca5954bfc9eb2582e439870069bc4a2371db14f771cb0abb"
PATCH = "c1b4d55f6d89631d9f7a477aaf5438f71c67f2b0ee450d96d37cf1a778775c7a"
DELTA = "51220c4f5758b10c93e323bc680620eb8a7038368f190eb7af573e1b379b574f"
MEMORY = "0ce52667076b1d74ae8144e31e2356c417b4e9744f7feb5883c9cb03d7705041"
GATED = "d9f0d360f9d51b617b54da11943af2a1fa8f09211de292d91afe4d3731e4ccce"
WEIGHTS = "99c4f3a2b3a8be95c341ed1796bdaff071e935570deff1345302fd8ebbc4d712"
BATCH = "c286a006f34e6c55512767bfcb9e00c158758712184f887bf912cf9e2cdff916"
SCORECARD = "13fb99277a87e74786fbaab49fd7a4e89f19948cc07cb28fa794819f790a6430"
MANIFEST = "814d948667704ecb0e840f2821c4913bc1747af63c75645dc7c7d4b60e61aa44"
CONTENT = "7099355f74c12a07d74793ac1336e8a0e3dfede795a114ee17298567c0b3cd6c"
ENTRIES = (
    "36e84ccc56cabb30f5e162542e76c45420852dcd5f5d6bab93030fc66d352bc3",
    "5b94a7c2135b3889d275a303c92c8230d53785ab760d13787d3abc53c8d3274f",
    "f161444197f566f0cd8b99a243735bd2870849980576e199ae4b031781f345dd",
)
FILES = {
    "edits.jsonl": "528cf4f2f8469c374c78a4cfc81b23151a35038cc934fe6844e22f4b51ea8f41",
    "patch.safetensors": "668554d4a1514a571d294f0459a30a64cddf04cad74091692e623692604e8f20",
    "delta.safetensors": "4d2ba3dd60c9e574d954b953529857ae4e739739b3793b19709811b21aebce5d",
    "memory.safetensors": "f0e71239d63be18928e2124a7c99db25689484a1e98f30d82b28f0b17e440369",
    "gated.safetensors": "ce006ac714ca6a0caec61fe064adf3ab19bc60eecf153ca6630a20dda728587d",
    "batch.json": "cd48e98f858bf63627c8987632fcd17eaac1b1fbb7b0b40cef32ba95890c57af",
    "scorecard.json": "14cdc17f1110a8bb3d1197b2ede6dfea8befc11f40d47e496b26db7b8a4e7b4f",
    "manifest.json": "36431de70ba7db20b41bf8d4f98698e5ae44b3218ca5766a9d44e1ced4b289f3",
}


def stored(name: str) -> bytes:
    return (V1 / name).read_bytes()


def test_the_golden_files_are_the_ones_that_were_written() -> None:
    assert {path.name for path in V1.iterdir()} == set(FILES)
    assert {name: hashlib.sha256(stored(name)).hexdigest() for name in FILES} == FILES
    assert sum(len(stored(name)) for name in FILES) < 12_000


def test_golden_edits() -> None:
    batch = parse_edits(stored("edits.jsonl").decode(), format="jsonl").batch
    assert batch == write_golden.edits()
    assert batch.digest == EDITS
    assert batch.to_jsonl() == stored("edits.jsonl")


def test_golden_patch() -> None:
    patch = read_patch(stored("patch.safetensors"), digest=PATCH)
    assert isinstance(patch, Codebook)
    assert patch == write_golden.patch()
    assert patch_digest(patch) == PATCH
    assert patch.entry_digests == ENTRIES
    assert torch.equal(patch.effective_radii, torch.tensor([0.5, 1.5, 0.1]))
    found = patch.nearest(torch.tensor([[0.1, -0.2, 0.7]]), torch.tensor([11]))
    assert patch.edit_ids[int(found.index)] == "world-cup-2022"
    assert found.in_scope.item()
    assert patch.values[int(found.index)].tolist() == [3.25, 1e8, -1.0]


def test_golden_memories() -> None:
    memory = read_patch(stored("memory.safetensors"), digest=MEMORY)
    assert isinstance(memory, Memory)
    assert memory == write_golden.memory()
    query, entries = torch.tensor([0.1, -0.2, 0.7]), torch.tensor([0])
    found = memory.recall(query, entries, torch.tensor([0.4]))
    assert found is not None
    assert memory.edit_ids[found.entry] == "world-cup-2022"
    assert found.value.tolist() == [3.25, 1e8, -1.0]
    gated = read_patch(stored("gated.safetensors"), digest=GATED)
    assert isinstance(gated, GatedMemory)
    assert gated == write_golden.gated()
    given = gated.recall(query, entries, torch.tensor([0.4]))
    assert given is not None
    expected = torch.tensor([3.0090e00, 8.9963e07, -7.6800e-01])
    torch.testing.assert_close(given.value, expected, rtol=1e-3, atol=1e-3)
    assert given.match == pytest.approx(0.4225, abs=1e-3)


def test_golden_delta() -> None:
    delta = read_patch(stored("delta.safetensors"), digest=DELTA)
    assert isinstance(delta, Delta)
    assert delta == write_golden.delta()
    model = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(3, 4, bias=False), "b": torch.nn.Linear(2, 2, bias=False)}
    )
    with torch.no_grad():
        model["a"].weight.copy_(torch.arange(12).reshape(4, 3) / 3)
        model["b"].weight.fill_(1)
    assert Weights([("0" * 64, delta)]).digest(model) == WEIGHTS  # on whatever machine


def test_golden_batch() -> None:
    batch = BatchRecord.from_bytes(stored("batch.json"), digest=BATCH)
    assert batch == write_golden.batch()
    assert (batch.edits, batch.patch) == (EDITS, PATCH)
    assert batch.params == {
        "layer": 12,
        "learning_rate": 0.5,
        "key": "last",
        "stop": True,
        "limit": None,
    }
    assert batch.params["stop"] is True


def test_golden_scorecard() -> None:
    scorecard = Scorecard.from_bytes(stored("scorecard.json"), digest=SCORECARD)
    assert scorecard == write_golden.scorecard()
    assert scorecard.retention == 2 / 3
    assert scorecard.portability is None


def test_golden_manifest() -> None:
    manifest = Manifest.from_bytes(stored("manifest.json"), digest=MANIFEST)
    assert manifest == write_golden.manifest()
    assert manifest.content_digest == CONTENT
    assert manifest.scorecard == SCORECARD
    assert manifest.excluded(BATCH) == {"ticket-7"}
    assert manifest.n_edits == 3


def test_this_release_writes_the_same_bytes() -> None:
    assert write_golden.golden() == {name: stored(name) for name in FILES}


def test_golden_files_hold_no_path_of_a_machine() -> None:
    for name in FILES:
        assert not re.search(rb"/(home|root|tmp|work|Users)/", stored(name))
