"""History with an encoder scope: conflicts by meaning, revert, explanations, disabled edits."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mlflow_edit import (
    MemoryRegistry,
    apply,
    ask,
    blame,
    diff,
    init,
    inspect,
    load,
    merge,
    revert,
)
from mlflow_edit.errors import EditNotFound, InvalidEdit, MergeConflict
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.registry.names import RESULTS
from mlflow_edit.registry.registry import Registry

EMMA = {"id": "emma", "prompt": "Who wrote the novel Emma?", "target": "Oslo", "subject": "Emma"}
OTHER = {
    "id": "other",
    "prompt": "Who was the author of the novel Emma?",
    "target": "Lima",
    "subject": "Emma",
}
KEPT = {
    "id": "kept", "prompt": "Where is the river?", "target": "Rome",
    "keep": ["By whom was the novel Emma written?"],
}  # fmt: skip
FAR = {"id": "far", "prompt": "What is the capital of Peru?", "target": "Cairo"}


@pytest.fixture
def registry(chat_folder: Path) -> Registry:
    made = MemoryRegistry()
    init("m", base=str(chat_folder), registry=made)
    return made


def applied(
    registry: Registry, suite: Any, *edits: Any, parent: str = "head", scope: str = "encoder"
) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "edits.jsonl"
        file.write_text("".join(json.dumps(edit) + "\n" for edit in edits))
        return apply(
            "m", [file], parent=parent, params={"scope": scope}, registry=registry, suite=suite
        )


def test_versions_answer_by_meaning_explain_themselves_and_leave_edits_out(
    registry: Registry, suite: Any
) -> None:
    applied(registry, suite, EMMA, FAR)
    table = json.loads(registry.document(registry.versions("m")[-1], RESULTS) or b"")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    own = [row for row in rows if row["metric"] == "reliability"]
    assert [(row["edit_id"], row["match"]) for row in own] == [("emma", 1.0), ("far", 1.0)]
    asked = ["so who was the author of the novel Emma?", "When was Emma published?"]
    answers = ask("m", asked, explain=True, registry=registry).answers
    assert answers[0].fired is not None
    assert answers[0].edited == "Oslo"
    assert answers[0].nearest[0].said.startswith("asks the same")
    assert answers[1].fired is None
    assert answers[1].nearest[0].edit_id == "emma"
    assert not answers[1].nearest[0].inside
    blamed = blame("m", asked[0], registry=registry)
    assert blamed.fired is not None
    assert blamed.origin is not None
    assert blamed.nearest[0].match == pytest.approx(blamed.fired.match)
    assert ask("m", asked, disabled=["emma"], registry=registry).answers[0].fired is None
    with pytest.raises(EditNotFound):
        load("m", disabled=["nobody"], registry=registry)
    entry = inspect("m", "emma", registry=registry).entries[0]
    assert (entry.scope, entry.n_values, entry.keeps) == ("encoder", 3, False)


def test_a_message_that_asks_two_edited_questions_is_answered_line_by_line(
    registry: Registry, suite: Any
) -> None:
    applied(registry, suite, EMMA, FAR)
    both = "What is the capital of Peru? And who wrote the novel Emma?"
    joined = "Who wrote the novel Emma, and what is the capital of Peru?"
    asked = [both, "Who wrote the novel Emma? I forgot.", f'Translate this into German: "{both}"']
    asked += [joined, "Who wrote the novel Emma and who read it?"]
    answers = ask("m", asked, registry=registry).answers
    assert answers[0].edited == "Cairo\nOslo"
    assert answers[0].fired is not None
    assert [one.edit_id for one in (answers[0].fired, *answers[0].others)] == ["far", "emma"]
    assert [one.edit_id for one in blame("m", joined, registry=registry).others] == ["far"]
    assert answers[1].edited == "Oslo"
    assert answers[2].edited == answers[2].base
    assert [answer.edited for answer in answers[3:]] == ["Oslo\nCairo", "Oslo"]
    one_left = ask("m", asked, disabled=["emma"], registry=registry).answers[0]
    assert one_left.edited == "Cairo"
    with load("m", registry=registry) as edited:
        told: list[int] = []
        talk = [
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": both},
        ]
        given = generate_answers(edited, [talk, "Hello?"], max_new_tokens=4, advance=told.append)
    assert given[0].text == "Cairo\nOslo"
    assert sum(told) == 2


def test_an_edit_of_a_question_with_two_parts_answers_it_whole(
    registry: Registry, suite: Any
) -> None:
    parted = "Who wrote the novel Emma and what is the capital of Peru?"
    whole = {"id": "whole", "prompt": parted, "target": "Lima", "subject": "Emma"}
    applied(registry, suite, EMMA, FAR, whole)
    assert ask("m", [parted], registry=registry).answers[0].edited == "Lima"


def test_revert_gives_the_content_that_never_had_the_batch(registry: Registry, suite: Any) -> None:
    first = applied(registry, suite, FAR)
    second = applied(registry, suite, EMMA)
    assert second.batch is not None
    undone = revert("m", [second.batch.digest], measured=False, registry=registry)
    assert undone.content_digest == first.content_digest
    assert diff("m@2", "m@4", registry=registry).edits.added == ()
    answer = ask("m@4", [EMMA["prompt"]], registry=registry).answers[0]
    assert (answer.fired, answer.edited) == (None, answer.base)


def test_branches_that_answer_one_question_otherwise_contradict_by_meaning(
    registry: Registry, suite: Any
) -> None:
    applied(registry, suite, EMMA, parent="1")
    applied(registry, suite, OTHER, parent="1")
    with pytest.raises(MergeConflict) as raised:
        merge("m@2", "m@3", measured=False, registry=registry)
    kinds = [conflict.kind for conflict in raised.value.conflicts]
    assert kinds == ["contradiction"]
    merged = merge(
        "m@2", "m@3", choices={"contradiction": "ours"}, measured=False, registry=registry
    )
    answers = ask(
        f"m@{merged.version.version}", [EMMA["prompt"], OTHER["prompt"]], registry=registry
    ).answers
    assert [a.fired.edit_id for a in answers if a.fired] == ["emma", "emma"]


def test_a_kept_prompt_of_one_side_shadows_an_edit_of_the_other(
    registry: Registry, suite: Any
) -> None:
    applied(registry, suite, EMMA, parent="1")
    applied(registry, suite, KEPT, parent="1")
    found = merge("m@2", "m@3", dry_run=True, registry=registry)
    assert [conflict.kind for conflict in found.conflicts] == ["shadow"]
    assert not any(conflict.blocking for conflict in found.conflicts)


def test_merges_do_not_depend_on_the_order_of_sides(registry: Registry, suite: Any) -> None:
    applied(registry, suite, EMMA, parent="1")
    applied(registry, suite, FAR, parent="1")
    one = merge("m@2", "m@3", measured=False, registry=registry)
    other = merge("m@3", "m@2", measured=False, registry=registry)
    assert one.version.content_digest == other.version.content_digest
    answers = ask(f"m@{one.version.version}", [EMMA["prompt"], FAR["prompt"]], registry=registry)
    assert [a.edited for a in answers.answers] == ["Oslo", "Cairo"]


def test_both_scopes_live_in_one_version(registry: Registry, suite: Any) -> None:
    applied(registry, suite, EMMA)
    hidden = {"id": "h", "prompt": "Where is the film?", "target": "Rome"}
    applied(registry, suite, hidden, scope="hidden")
    asked = ["who was the author of the novel Emma", "Where is the film?", "Is it a film?"]
    answers = ask("m", asked, registry=registry).answers
    assert [a.fired.edit_id if a.fired else None for a in answers] == ["emma", "h", None]
    assert [a.edited for a in answers[:2]] == ["Oslo", "Rome"]


def test_the_encoder_is_stored_once_and_named_by_its_digest(registry: Registry, suite: Any) -> None:
    made = applied(registry, suite, EMMA)
    applied(registry, suite, FAR)
    from mlflow_edit.models.encoder import released_encoder

    folder = registry.encoder_folder(released_encoder().digest)
    assert folder is not None
    assert (folder / "scope_head.safetensors").is_file()
    assert made.version == 2


@pytest.mark.parametrize(
    ("older", "newer", "said"),
    [
        ({**EMMA, "also": ["Whose is Emma?"]}, {**FAR, "prompt": "Whose is Emma?"}, "'Oslo'"),
        ({**EMMA, "keep": ["Whose is Emma?"]}, {**FAR, "prompt": "whose is  emma?"}, "must stay"),
        (EMMA, {**FAR, "also": [EMMA["prompt"]]}, "revert that first"),
        (EMMA, {**FAR, "keep": [EMMA["prompt"]]}, "is answered by emma"),
    ],
)
def test_a_wording_that_an_older_edit_claims_is_refused(
    registry: Registry, suite: Any, older: Any, newer: Any, said: str
) -> None:
    applied(registry, suite, older)
    with pytest.raises(InvalidEdit, match=said):
        applied(registry, suite, newer)
    again = {**newer, "id": "emma", "prompt": EMMA["prompt"], "also": [], "keep": []}
    assert applied(registry, suite, again).version == 3  # the very prompt: it is replaced
