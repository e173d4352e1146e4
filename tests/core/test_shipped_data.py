import json
from importlib.resources import files
from pathlib import Path

import pytest

from mlflow_edit.core.answers import words
from mlflow_edit.core.edit import normal_text
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.core.edit_file import parse_edits

EXAMPLES = Path(__file__).parents[2] / "examples" / "edits"
SUITE = [
    json.loads(line)
    for line in (files("mlflow_edit.evaluation") / "suites" / "default.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
QUESTIONS = [item for item in SUITE if "prompt" in item]
PARAGRAPHS = [item for item in SUITE if "text" in item]


def demo_batch() -> EditBatch:
    text = (files("mlflow_edit.operations") / "demo_edits.jsonl").read_text(encoding="utf-8")
    return parse_edits(text, format="jsonl").batch


def example_batch(name: str) -> EditBatch:
    path = EXAMPLES / name
    read = parse_edits(path.read_text(encoding="utf-8"), format=path.suffix.removeprefix("."))
    assert read.ignored_fields == ()
    return read.batch


def asked(batch: EditBatch) -> set[str]:
    """Return every prompt that belongs to the batch, normalised."""
    prompts = [
        text
        for edit in batch
        for text in (
            edit.prompt,
            *edit.rephrases,
            *(probe.prompt for probe in (*edit.locality, *edit.portability)),
        )
    ]
    return {normal_text(text) for text in prompts}


def test_suite_has_sixty_questions_and_twenty_four_paragraphs() -> None:
    assert len(QUESTIONS) == 60
    assert len(PARAGRAPHS) == 24
    assert len(SUITE) == 84


def test_suite_lines_have_only_their_own_fields() -> None:
    assert all(set(item) == {"prompt", "answers"} for item in QUESTIONS)
    assert all(set(item) == {"text"} for item in PARAGRAPHS)


def test_suite_questions_are_distinct_and_every_answer_has_words() -> None:
    assert len({normal_text(item["prompt"]) for item in QUESTIONS}) == len(QUESTIONS)
    for item in QUESTIONS:
        assert item["answers"], item["prompt"]
        assert all(words(answer) for answer in item["answers"]), item["prompt"]


def test_suite_paragraphs_are_distinct_and_of_moderate_length() -> None:
    assert len({item["text"] for item in PARAGRAPHS}) == len(PARAGRAPHS)
    assert all(40 <= len(item["text"].split()) <= 80 for item in PARAGRAPHS)


def test_suite_asks_nothing_that_a_shipped_edit_or_its_probes_ask() -> None:
    questions = {normal_text(item["prompt"]) for item in QUESTIONS}
    batches = [demo_batch(), *(example_batch(path.name) for path in EXAMPLES.iterdir())]
    for batch in batches:
        assert not questions & asked(batch)


def test_demo_has_eight_facts_with_their_probes() -> None:
    batch = demo_batch()
    assert len(batch) == 8
    for edit in batch:
        assert edit.kind == "fact"
        assert edit.subject is not None
        assert edit.subject in edit.prompt
        assert len(edit.rephrases) == len(edit.locality) == 2
        assert len(edit.portability) == 1
        assert edit.portability[0].kind in {"one-hop", "alias", "reverse"}
        assert edit.portability[0].answers
        assert edit.source


def test_demo_corrects_the_world_cup_and_the_prime_minister() -> None:
    targets = {edit.prompt: edit.target for edit in demo_batch()}
    assert targets["Who won the FIFA World Cup in 2022?"] == "Argentina"
    assert targets["Who is the prime minister of the United Kingdom?"] == "Keir Starmer"


@pytest.mark.parametrize(
    ("name", "n_edits"),
    [
        ("corrections.jsonl", 5),
        ("corrections.csv", 3),
        ("corrections.yaml", 3),
        ("passage.jsonl", 2),
    ],
)
def test_examples_parse(name: str, n_edits: int) -> None:
    batch = example_batch(name)
    assert len(batch) == n_edits
    for edit in batch:
        assert edit.rephrases
        assert edit.locality
        assert edit.subject is not None
        assert edit.subject in edit.prompt


def test_csv_and_yaml_hold_the_same_batch() -> None:
    assert example_batch("corrections.csv").digest == example_batch("corrections.yaml").digest


def test_passages_are_text_edits() -> None:
    assert {edit.kind for edit in example_batch("passage.jsonl")} == {"text"}


def test_examples_correct_other_facts_than_the_demo() -> None:
    seen = {edit.id: normal_text(edit.prompt) for edit in demo_batch()}
    for name in ("corrections.jsonl", "corrections.csv", "passage.jsonl"):
        for edit in example_batch(name):
            assert edit.id not in seen
            assert normal_text(edit.prompt) not in seen.values()
            seen[edit.id] = normal_text(edit.prompt)


def test_no_probe_of_one_shipped_edit_asks_what_another_corrects() -> None:
    batches = [demo_batch(), *map(example_batch, ("corrections.jsonl", "corrections.csv"))]
    corrected = {
        normal_text(text) for batch in batches for e in batch for text in (e.prompt, *e.rephrases)
    }
    for batch in batches:
        for edit in batch:
            assert not corrected & {normal_text(probe.prompt) for probe in edit.locality}
