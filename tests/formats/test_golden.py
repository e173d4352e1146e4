"""Files of format 1 are read for ever: these were written by the release that introduced it."""

import hashlib
import re
from pathlib import Path

import torch
import write_golden

from mlflow_edit.core.batch_record import BatchRecord
from mlflow_edit.core.edit_file import parse_edits
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.format import patch_digest, read_patch

V1 = Path(__file__).parent / "v1"

# Never change these: a digest that changes here changes in every registry.
EDITS = "b300323d5c1b32323c78bb7754687b58fb7ff356d1db55ad3620a62439ddd630"
PATCH = "c7ce206611b559622ca2ea9a2e623f99232b73c438d39f2119bdeb06c65cf4c5"
BATCH = "7a5cf126e970e9310277374bbf08f8c3a8a420b6467867845547bed3e1642e52"
SCORECARD = "4f2c13936a10f74e2322eb804754f53d217702db2694b707273e01a0aa97fb26"
MANIFEST = "cba1bafc39b72a175ba35ad09fe3601d8cd5f88b81db22c8434501a7391b1eb5"
CONTENT = "5af24a35f55d003e96b66d4e728aea6ab85aba539bd35a2734f88ba034165e02"
ENTRIES = (
    "33cfefa6f6cca207fdd6c0ff37ce183bbce6a510b6712c5afcdff216b012b2ea",
    "c5f01e94f7bd55f817485f41904f1869c1ad3cf1648a652fabdf4138c25c9a69",
    "e9eb6466fca21856d7ec22216b572dd602cdca265dcf15a7992450410ef3d522",
)
FILES = {
    "edits.jsonl": "528cf4f2f8469c374c78a4cfc81b23151a35038cc934fe6844e22f4b51ea8f41",
    "patch.safetensors": "011af18c0e13a612f88f1506321f32318c4397704f5f5cf49fe1f0c2ffc8a0ca",
    "batch.json": "bf6155ef6df1f683b407778199a275e8dcad7776084805145ab66910770f642a",
    "scorecard.json": "e2194f6cc78ca2181093e64f61f90abf772917ac6550cce9472653862deac6fe",
    "manifest.json": "2285eae82ca2ddea3934fdc59d6dc6b7fbbd21b4520f2594a0d96c0418404bca",
}


def stored(name: str) -> bytes:
    return (V1 / name).read_bytes()


def test_the_golden_files_are_the_ones_that_were_written() -> None:
    assert {path.name for path in V1.iterdir()} == set(FILES)
    assert {name: hashlib.sha256(stored(name)).hexdigest() for name in FILES} == FILES
    assert sum(len(stored(name)) for name in FILES) < 8_000


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
    assert torch.equal(patch.effective_radii, torch.tensor([0.1, 0.5, 1.5]))
    found = patch.nearest(torch.tensor([[0.1, -0.2, 0.7]]), torch.tensor([11]))
    assert patch.edit_ids[int(found.index)] == "world-cup-2022"
    assert found.in_scope.item()
    assert patch.values[int(found.index)].tolist() == [3.25, 1e8, -1.0]


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
