"""The verbs of history on real MLflow: fields, exit codes, and what people read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_fixtures import BOOK, FILM, draft_of, hand_made_batch, root_of

from cli.conftest import Mledit
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.registry.mlflow_registry import MlflowRegistry

Write = Callable[..., Path]
Q = "-q"


@pytest.fixture
def fork(mledit: Mledit, chat_folder: Path) -> tuple[str, str]:
    """Two versions on one parent whose edits contradict each other: `m@2` and `m@3`."""
    registry = MlflowRegistry()
    root = root_of(registry, chat_folder, "m")
    digests = []
    for seed, target in enumerate(("Rome", "Lima")):
        batch = hand_made_batch(
            root[1].base.digest, [(BOOK, target), (f"Q{seed}?", "x")], seed=seed
        )
        card = Scorecard(retention=1.0 - seed / 10, locality=1.0, n_probes={"retention": 10})
        registry.publish(
            draft_of("m", root[1].base, parents=[root], batch=batch, scorecard=card,
                     message=f"to [b]{target}[/b]")
        )  # fmt: skip
        digests.append(batch.record.digest)
    return digests[0], digests[1]


def test_log_of_a_fork(mledit: Mledit, fork: Any) -> None:
    ran = mledit("log", "m", "--graph")
    assert ran.out.splitlines()[0].startswith("2 heads: versions 2, 3; mledit merge m@2 m@3")
    assert [line[0] for line in ran.out.splitlines()[1:]] == ["*", "|", "|", "*"]
    assert "to [b]Lima[/b]" in ran.out
    assert [v["version"] for v in mledit("log", "m", "1..2", "--json").json["versions"]] == [2]
    assert mledit("log", "m", "nonsense").code == 2
    assert mledit("log", "m", "--promotions").out.startswith("No decision")


def test_log_proposes_no_merge_of_what_is_the_same(mledit: Mledit, chat_folder: Path) -> None:
    registry = MlflowRegistry()
    root = root_of(registry, chat_folder, "m")
    batch = hand_made_batch(root[1].base.digest, [(BOOK, "Rome")])
    for _ in range(2):
        registry.publish(draft_of("m", root[1].base, parents=[root], batch=batch))
    assert mledit("log", "m").out.splitlines()[0] == "2 heads: versions 2, 3; of the same content"


def test_diff(mledit: Mledit, fork: Any) -> None:
    found = mledit("diff", "m@2", "m@3", "--json")
    assert found.json["schema"] == "mledit.diff/1"
    assert found.json["batches"].keys() == {"added", "removed"}
    assert found.json["edits"].keys() == {"added", "removed", "changed"}
    assert [b["digest"] for b in found.json["batches"]["added"]] == [fork[1]]
    assert mledit("diff", "m@2", "m@3", "--exit-code").code == 1
    assert mledit("diff", "m@2", "m@2", "--exit-code").code == 0
    assert "They do the same" in mledit("diff", "m@2", "m@2").out
    assert "Rome → Lima" in mledit("diff", "m@2", "m@3").out
    assert "1 changed" in mledit("diff", "m@2", "m@3", "--stat").out
    assert mledit("diff", "m@2", "m@9").code == 3


def test_revert(mledit: Mledit, fork: Any) -> None:
    made = mledit("revert", "m@2", "e0", "-m", "no", "--no-measure", Q, "--json")
    assert made.code == 0, made.err
    assert made.json["schema"] == "mledit.revert/1"
    assert [e["id"] for e in made.json["taken"]] == ["e0"]
    assert made.json["message"] == "no"
    text = mledit("revert", "m@3", fork[1][:8], "--no-measure", Q)
    assert "not measured: mledit eval m@5" in text.out
    assert mledit("revert", "m@3", "no-such", Q).code == 3
    assert mledit("revert", "m@3", Q).code == 2


def test_merge_and_conflicts(mledit: Mledit, fork: Any) -> None:
    dry = mledit("merge", "m@2", "m@3", "--dry-run", Q, "--json")
    assert (dry.code, dry.json["state"]) == (1, "dry-run")
    [conflict] = dry.json["conflicts"]
    assert conflict.keys() >= {"id", "kind", "ours", "theirs", "base"}
    assert dry.json["merge_base"][0]["version"] == 1
    assert mledit("conflicts", "list", "m").code == 3
    text = mledit("merge", "m@2", "m@3", "--no-measure", Q)
    assert (text.code, text.out) == (1, "")
    assert text.err.startswith("Error: 1 conflict to resolve")
    stopped = mledit("merge", "m@2", "m@3", "--no-measure", Q, "--json")
    assert (stopped.code, stopped.json["state"]) == (1, "conflicts")
    assert stopped.json["unresolved"] == [conflict["id"]]
    listed = mledit("conflicts", "list", "m", "--json").json
    assert (listed["unresolved"], listed["conflicts"][0]["choice"]) == (1, None)
    assert conflict["id"] in mledit("conflicts", "list", "m").out
    assert "ours, theirs, drop" in mledit("conflicts", "show", "m", conflict["id"]).out
    assert mledit("conflicts", "resolve", "m", conflict["id"]).code == 2
    assert mledit("conflicts", "resolve", "m", "c-nope", "--ours").code == 3
    done = mledit("conflicts", "resolve", "m", conflict["id"], "--theirs", "-m", "why", "--json")
    assert done.json["choice"] == "theirs"
    made = mledit("merge", "m", "--continue", "--no-measure", Q, "--json")
    assert (made.code, made.json["state"], made.json["version"]["version"]) == (0, "merged", 4)
    assert mledit("merge", "m", "--abort").code == 3
    for wrong in (["m"], ["m@2", "m@3", "--abort"], ["m", "--abort", "--continue"]):
        assert mledit("merge", *wrong).code == 2
    ahead = mledit("merge", "m@2", "m@4", "--json", Q).json
    assert (ahead["state"], ahead["version"]["version"]) == ("fast-forward", 4)


def test_merge_settled_by_option_and_by_file(mledit: Mledit, fork: Any, tmp_path: Path) -> None:
    option = mledit("merge", "m@2", "m@3", "-X", "contradiction=ours", "--no-measure", Q, "--json")
    assert option.code == 0, option.err
    named = option.json["conflicts"][0]["id"]
    for name, text in (("r.yaml", f"{named}: ours\n"), ("r.json", json.dumps({named: "ours"}))):
        (tmp_path / name).write_text(text)
        made = mledit(
            "merge", "m@2", "m@3", "--resolutions", tmp_path / name, "--no-measure", Q, "--json"
        )
        assert made.json["content_digest"] == option.json["content_digest"]
    (tmp_path / "bad.yaml").write_text("- 1\n")
    for wrong in (
        ["-X", "contradiction"], ["-X", "x=ours"], ["-X", "contradiction=mine"],
        ["--resolutions", tmp_path / "bad.yaml"], ["--resolutions", tmp_path / "none"],
    ):  # fmt: skip
        assert mledit("merge", "m@2", "m@3", *wrong, Q).code == 2


def test_cherry_pick(mledit: Mledit, fork: Any) -> None:
    pick = ["cherry-pick", "m@3", fork[1][:8], "--onto", "m@2", "--no-measure", Q]
    assert mledit(*pick).code == 1
    error = mledit(*pick, "--json").json["error"]
    assert (error["type"], error["conflicts"][0]["kind"]) == ("MergeConflict", "contradiction")
    made = mledit(*pick, "-X", "contradiction=theirs", "--json")
    assert made.json["schema"] == "mledit.cherry-pick/1"
    assert made.json["picked"] == [fork[1]]
    assert mledit("cherry-pick", "m@3", "feedbeef", "--onto", "m@2", Q).code == 3


def test_promote_and_rollback(mledit: Mledit, fork: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text("min: {retention: 0.95}\napproved: true\n")
    first = mledit("promote", "m@2", "--to", "staging", "-m", "go", "--json")
    assert first.json["schema"] == "mledit.promote/1"
    assert (first.json["alias"], first.json["version"], first.json["previous"]) == (
        "staging", 2, None,
    )  # fmt: skip
    refused = mledit("promote", "m@3", "--to", "staging", "--gate", gate, "--json")
    assert refused.code == refused.json["error"]["exit_code"] == 6
    assert {c["passed"] for c in refused.json["error"]["failures"]} == {False}
    assert "approved" in mledit("promote", "m@2", "--to", "prod", "--gate", gate).err
    assert mledit("approve", "m@2", "-m", "good", "--json").json["verdict"] == "approved"
    passed = mledit("promote", "m@2", "--to", "prod", "--gate", gate, "--json").json
    assert passed["gate"]["passed"]
    assert len(passed["gate"]["checks"]) == 2
    assert mledit("promote", "m@3", "--to", "staging", "--if-current", "3").code == 5
    assert mledit("promote", "m@3", "--to", "staging", "--if-current", "2").code == 0
    assert mledit("show", "m@staging", "--json").json["version"] == 3
    assert mledit("rollback", "m", "staging", "--json").json["version"] == 2
    assert mledit("rollback", "m", "staging").code == 3
    assert mledit("reject", "m@3", "-m", "bad").out.startswith("m@3 rejected by")
    told = mledit("log", "m", "--promotions", "--json").json["promotions"]
    assert [d["kind"] for d in told] == [
        "promotion", "refusal", "refusal", "approved", "promotion", "promotion", "rollback",
        "rejected",
    ]  # fmt: skip
    assert "retention >= 0.95" in mledit("log", "m", "--promotions").out.replace("\n", " ")
    assert mledit("promote", "m@2", "--to", "latest").code == 2
    assert mledit("promote", "m@2", "--to", "x", "--stages").code == 2
    assert mledit("promote", "m@2", "--to", "production", "--stages").code == 0
    stage = MlflowRegistry().client.get_model_version("m", "2").current_stage
    assert stage == "Production"


def test_verify_and_gc(mledit: Mledit, fork: Any) -> None:
    whole = mledit("verify", "--json", Q)
    assert (whole.code, whole.json["ok"], whole.json["problems"]) == (0, True, [])
    assert whole.json["checked"]["versions"] == 3
    client = MlflowRegistry().client
    client.set_model_version_tag("m", "2", "mledit.edits", "99")
    broken = mledit("verify", "m", Q)
    assert broken.code == 4
    assert "--fix mends it" in broken.out
    mended = mledit("verify", "m", "--fix", Q)
    assert mended.code == 0
    assert [line.split() for line in mended.out.splitlines() if "where" in line] == [
        ["where", "fixed"]
    ]
    assert "--fix" not in mended.out
    assert mledit("verify", "m", Q).code == 0
    experiment = client.get_experiment_by_name("mledit/m").experiment_id
    client.create_run(experiment, tags={"mledit.verb": "apply"})
    listed = mledit("gc", "m", "--dry-run", "--older-than", 0, "--json").json
    assert [o["kind"] for o in listed["orphans"]] == ["run"]
    assert len(mledit("gc", "m", "--json").json["kept"]) == 1
    assert "1 orphans removed" in mledit("gc", "m", "--older-than", 0).out
    assert mledit("gc", "m", "--older-than", 0, "--json").json["orphans"] == []
    assert mledit("verify", "m", Q).code == 0


def test_blame_bisect_and_export(
    mledit: Mledit, model: str, write_edits: Write, suite_file: Path, tmp_path: Path
) -> None:
    file = write_edits({"prompt": BOOK, "target": "Rome", "id": "book"}, (FILM, "Oslo"))
    assert mledit("apply", model, file, "--suite", suite_file, Q).code == 0
    found = mledit("blame", "m", BOOK, Q, "--json").json
    assert found["schema"] == "mledit.blame/1"
    assert found["fired"].keys() == {"edit_id", "batch", "distance", "radius", "match"}
    assert found["origin"]["version"] == 2
    assert mledit("blame", "m", BOOK, Q).out.startswith("Edit book answers: distance")
    assert mledit("blame", "m", "Unlike anything", Q).out.startswith("The base model answers.")
    by = ["bisect", "m", "--prompt", BOOK, "--unwanted", "Rome", Q]
    assert mledit(*by, "--subset", "--json").json["added"][0]["id"] == "book"
    assert "to blame: batch" in mledit(*by).out
    assert mledit("bisect", "m", "--prompt", BOOK, "--unwanted", "Lima", Q).code == 1
    for wrong in ([], ["--prompt", BOOK], ["--metric", "locality"], ["--expect", "x"],
                  ["--run", "true", "--prompt", BOOK, "--expect", "x"]):  # fmt: skip
        assert mledit("bisect", "m", *wrong, Q).code == 2
    made = mledit("export", "m", tmp_path / "out", Q, "--json").json
    assert (made["schema"], made["version"]) == ("mledit.export/1", 2)
    assert mledit("export", "m", tmp_path / "out", Q).code == 2


def test_reading_verbs_make_no_store(
    mledit: Mledit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistyped = tmp_path / "mlfow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mistyped}")
    for verb in (["log", "m"], ["verify"], ["ask", "m", "Who?"], ["promote", "m@1", "--to", "x"]):
        ran = mledit(*verb)
        assert (ran.code, "no MLflow store" in ran.err) == (3, True)
    assert not mistyped.exists()
