"""Revert and merge from the pages: chosen, looked at, then done in the queue."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltas import delta_batch, low_rank, publish_batch
from registry_fixtures import draft_of, hand_made_batch, scratch
from registry_fixtures import suite as suite
from registry_fixtures import suite_file as suite_file

from mlflow_edit.patches.merging.catalog import NAMES
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import VersionInfo
from mlflow_edit.web.access import Permission
from mlflow_edit.web.actions.merge import STRATEGIES
from mlflow_edit.web.jobs import Jobs
from web.conftest import Bench, make_bench


@dataclass
class Forked:
    """`m@2` and `m@3` answer one prompt differently, over a common root."""

    bench: Bench
    two: VersionInfo
    three: VersionInfo

    def merge(self, **fields: Any) -> Any:
        """Send the form of a merge of 3 into 2."""
        form = {"digest": self.two.digest, "theirs": self.three.digest, **fields}
        return self.bench.send("/merge", {"version": "2", "with": "3"}, **form)

    def revert(self, *targets: str, **fields: Any) -> Any:
        """Send the form of a revert in 2."""
        form = {"digest": self.two.digest, "target": list(targets), **fields}
        return self.bench.send("/revert", {"version": "2"}, **form)

    def count(self) -> int:
        return len(self.bench.registry.versions("m"))


def forked_over(bench: Bench) -> Forked:
    base, parents = bench.manifest.base, [(bench.root, bench.manifest)]
    made = [
        bench.registry.publish(
            draft_of("m", base, parents=parents, message=f"by {who}",
                     batch=hand_made_batch(base.digest, edits, seed=seed, width=64))
        )
        for seed, (who, edits) in enumerate([
            ("Ada", [("Where is the book?", "Oslo"), ("Who?", "Ada")]),
            ("Bob", [("Where is the book?", "<b>Lima</b>"), ("When?", "1905")]),
        ])
    ]  # fmt: skip
    return Forked(bench, *made)


@pytest.fixture
def forked(bench: Bench) -> Forked:
    """A history with two heads."""
    return forked_over(bench)


@pytest.fixture
def without_models(chat_folder: Path) -> Forked:
    """The same, on a server that loads no models."""
    return forked_over(make_bench(chat_folder, jobs=Jobs(scratch() / "jobs" / "off", n_models=0)))


def test_the_history_offers_to_join_heads_that_differ(forked: Forked) -> None:
    assert "Join them" in forked.bench.get("/history", name="m").text


def test_the_history_offers_no_merge_of_what_is_the_same(bench: Bench) -> None:
    base, parents = bench.manifest.base, [(bench.root, bench.manifest)]
    batch = hand_made_batch(base.digest, [("Who?", "Ada")])
    for why in ("here", "there"):
        bench.registry.publish(draft_of("m", base, parents=parents, batch=batch, message=why))
    told = bench.get("/history", name="m").text
    assert "The history has forked" in told
    assert "They are of the same content." in told
    assert "Join them" not in told


def conflict_in(text: str) -> str:
    found = re.findall(r'name="choice:(c-[0-9a-f]+)" value="ours"', text)
    assert len(found) == 1, text
    return str(found[0])


# Revert


def test_what_can_be_reverted_is_listed(forked: Forked) -> None:
    text = forked.bench.get("/revert", name="m", version="2").text
    assert text.count('name="target"') == 3
    assert "Where is the book?" in text


def test_a_revert_is_looked_at_first(forked: Forked) -> None:
    answer = forked.revert("e0")
    assert answer.status_code == 200
    assert "Taken out: 1 edit" in answer.text
    assert "Where is the book?" in answer.text
    assert forked.count() == 3


def test_a_confirmed_revert_is_done_in_the_queue_under_the_name_of_the_user(
    forked: Forked,
) -> None:
    answer = forked.revert("e0", confirmed="yes", message="wrong", author="eve")
    text = forked.bench.follow(answer).text
    assert "Version 4 is registered" in text
    assert "It was not measured" in text
    made = forked.bench.registry.versions("m")[-1]
    assert (made.author, made.message, made.parents) == ("ada", "wrong", (forked.two.digest,))
    assert made.n_edits == 1
    assert forked.bench.follow(answer).text == text


def test_a_form_that_is_sent_twice_is_done_once(forked: Forked) -> None:
    jobs = forked.bench.app.extensions["mledit"].jobs
    with jobs.paused():
        one, two = (forked.revert("e0", confirmed="yes") for _ in range(2))
        assert one.location == two.location
    forked.bench.follow(one)
    assert forked.count() == 4


def test_a_whole_batch_and_what_would_come_back(forked: Forked) -> None:
    (ref,) = forked.bench.registry.manifest(forked.two).batches
    assert "the new one has 0 batches" in forked.revert(ref.digest).text
    answer = forked.revert(ref.digest, confirmed="yes")
    assert "Version 4 is registered" in forked.bench.follow(answer).text
    content = forked.bench.registry.versions("m")[-1].content_digest
    assert content == forked.bench.root.content_digest


@pytest.mark.parametrize(
    ("targets", "status"),
    [([], 400), (["nothing"], 404), (["<script>"], 404), (["e0"] * 201, 400), (["\x00"], 404)],
)
def test_nothing_is_reverted_that_is_not_there(
    forked: Forked, targets: list[str], status: int
) -> None:
    for confirmed in (None, "yes"):
        answer = forked.revert(*targets, confirmed=confirmed)
        if answer.status_code == 303:
            answer = forked.bench.follow(answer)
            assert 'href="/mledit/version?name=m&amp;version=2"' in answer.text  # the way back
        assert answer.status_code == status
        assert "<script>" not in answer.text
    assert forked.count() == 3


def test_a_measured_revert_has_a_scorecard(
    forked: Forked, suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow_edit.operations.measuring.default_suite", lambda: suite)
    text = forked.bench.follow(forked.revert("e0", confirmed="yes", measured="yes")).text
    assert "Version 4 is registered" in text
    assert re.search(r"retention</th><td class=\"n\">[01]\.\d\d\d", text)


def test_a_server_that_loads_no_models_makes_versions_without_measuring(
    without_models: Forked,
) -> None:
    bench = without_models.bench
    assert "MLEDIT_UI_MODELS=0" in without_models.revert("e0").text
    assert (
        "Version 4 is registered" in bench.follow(without_models.revert("e0", confirmed="yes")).text
    )
    refused = bench.follow(without_models.revert("e1", confirmed="yes", measured="yes"))
    assert refused.status_code == 422
    assert "no models are loaded here" in refused.text
    assert without_models.count() == 4


# Merge


def test_a_merge_asks_with_what(forked: Forked) -> None:
    text = forked.bench.get("/merge", name="m", version="2").text
    assert re.findall(r'<option value="(\d)"', text) == ["3", "1"]


def test_a_link_from_elsewhere_looks_for_no_conflicts(forked: Forked) -> None:
    answer = forked.bench.get("/merge", name="m", version="2", **{"with": "3"})
    assert answer.status_code == 200
    assert '<option value="3" selected>' in answer.text
    assert forked.bench.jobs() == []
    again = forked.bench.get("/merge", name="m", version="2", **{"with": "3"})
    assert again.status_code == 303, "now there is a session"


def test_conflicts_are_shown_resolved_and_merged(forked: Forked) -> None:
    bench = forked.bench
    shown = bench.follow(forked.merge()).text
    assert "1 of 1 conflicts must be resolved" in shown
    assert "→ Oslo" in shown
    assert "→ &lt;b&gt;Lima&lt;/b&gt;" in shown
    assert "Merge into a new version" not in shown
    key = f"choice:{conflict_in(shown)}"
    again = bench.follow(forked.merge(**{key: "theirs"})).text
    assert "Nothing is left to resolve" in again
    assert f'<input type="hidden" name="{key}" value="theirs">' in again
    assert forked.count() == 3
    done = bench.follow(forked.merge(**{key: "theirs"}, confirmed="yes", message="Join")).text
    assert "Version 4 is registered" in done
    made = bench.registry.versions("m")[-1]
    assert (made.author, made.message, made.n_edits) == ("ada", "Join", 3)
    assert made.parents == (forked.two.digest, forked.three.digest)
    (resolution,) = bench.registry.manifest(made).resolutions
    assert (resolution.kind, resolution.choice) == ("contradiction", "theirs")


def test_a_kind_of_conflict_is_resolved_at_once(forked: Forked) -> None:
    text = forked.bench.follow(forked.merge(**{"kind:contradiction": "drop"})).text
    assert "Nothing is left to resolve" in text


def test_what_is_not_resolved_is_not_merged_and_leaves_nothing_open(forked: Forked) -> None:
    answer = forked.bench.follow(forked.merge(confirmed="yes"))
    assert answer.status_code == 409
    assert "1 conflicts are left" in answer.text
    assert forked.count() == 3
    assert forked.bench.registry.ledger("m") == {}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"choice:c-0000000000": "ours"}, 404),
        ({"kind:contradiction": "<script>"}, 400),
        ({"kind:<script>": "ours"}, 400),
        ({"message": "x" * 1001, "confirmed": "yes"}, 400),
    ],
)
def test_choices_that_there_are_not_are_refused(
    forked: Forked, fields: dict[str, str], status: int
) -> None:
    answer = forked.merge(**fields)
    answer = forked.bench.follow(answer) if answer.status_code == 303 else answer
    assert answer.status_code == status
    assert "<script>" not in answer.text


def test_a_merge_with_a_version_that_is_another_by_now_is_refused(forked: Forked) -> None:
    answer = forked.merge(theirs="0" * 64)
    assert answer.status_code == 409
    assert forked.bench.jobs() == []


def test_who_may_only_read_sees_conflicts_and_cannot_choose(forked: Forked) -> None:
    forked.bench.access.granted["m"] = {Permission.READ}
    forked.bench.token()
    answer = forked.bench.get("/merge", name="m", version="2", **{"with": "3"})
    text = forked.bench.follow(answer).text
    assert "→ Oslo" in text
    assert "you need the permission to update" in text
    assert forked.merge(confirmed="yes").status_code == 403


def test_where_one_holds_the_other_there_is_nothing_to_merge(forked: Forked) -> None:
    query = {"version": "2", "with": "1"}
    form = {"digest": forked.two.digest, "theirs": forked.bench.root.digest}
    for confirmed in (None, "yes"):
        answer = forked.bench.send("/merge", query, **form, confirmed=confirmed)
        assert "There is nothing to merge" in forked.bench.follow(answer).text
    assert forked.count() == 3


# Weight deltas


@pytest.fixture
def with_deltas(bench: Bench) -> Forked:
    """A history with two heads, each with a change of the same weight."""
    base = bench.manifest.base
    model = load_pinned(bench.registry, base, device="cpu").model
    tensor = "model.layers.1.mlp.down_proj.weight"
    made = [
        publish_batch(
            bench.registry, "m@1",
            delta_batch(base.digest, [low_rank(model, tensor, seed=seed)], [(prompt, "Oslo")]),
        )
        for seed, prompt in enumerate(["Where is the book?", "Where is the film?"])
    ]  # fmt: skip
    return Forked(bench, *made)


def test_every_strategy_is_offered() -> None:
    assert tuple(STRATEGIES) == NAMES


def test_a_strategy_for_weights_is_chosen_shown_and_taken(with_deltas: Forked) -> None:
    bench = with_deltas.bench
    first = bench.follow(with_deltas.merge())
    assert "joined by <b>sum</b>" in first.text
    assert first.text.count("<option") == len(STRATEGIES)
    again = bench.follow(with_deltas.merge(strategy="ties")).text
    assert "joined by <b>ties</b>" in again
    assert 'name="strategy" value="ties"' in again
    done = bench.follow(with_deltas.merge(strategy="ties", confirmed="yes")).text
    assert "Version 4 is registered" in done
    merging = bench.registry.manifest(bench.registry.versions("m")[-1]).merging
    assert merging is not None
    assert merging.strategy == "ties"


def test_no_strategy_is_offered_without_deltas_or_taken_that_is_none(forked: Forked) -> None:
    text = forked.bench.follow(forked.merge(**{"kind:contradiction": "drop"})).text
    assert "joined by" not in text
    assert 'id="strategy"' not in text
    assert forked.merge(strategy="<b>").status_code == 400
