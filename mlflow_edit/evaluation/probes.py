"""Which prompts are put to base and edited model, and which answers they should get."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_edit.core.answers import is_hit
from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import Edit, normal_text
from mlflow_edit.core.results import ProbeMetric
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import class_index

ANSWER_TOKENS = 20  # of an answer whose length no target sets
MARGIN_TOKENS = 6  # behind the target, so that an answer that goes on is seen to
MAX_PROBES = 400  # of one metric; retention and reliability are never sampled


@dataclass(frozen=True, slots=True)
class Probe:
    """One prompt to be put to base and edited model."""

    metric: ProbeMetric
    edit_id: str | None
    prompt: str
    expected: tuple[str, ...]
    max_new_tokens: int


def collect_probes(
    edited: EditedModel, edits: Sequence[Edit], new: frozenset[str], suite: Suite
) -> list[Probe]:
    """List the probes of a version's edits and of a suite.

    Args:
        edited: the model, whose tokens lengths are counted in.
        edits: all edits of the version.
        new: digests of the edits of the newest batch, which reliability is about.
        suite: the questions for test retention.
    """
    probes: list[Probe] = []
    sampled: dict[ProbeMetric, list[Probe]] = {"generality": [], "locality": [], "portability": []}
    for edit in edits:
        length, wanted = _length(edited, edit.target), _expected(edited, (edit.target,))
        metric: ProbeMetric = "reliability" if edit.digest in new else "retention"
        probes.append(Probe(metric, edit.id, edit.prompt, wanted, length))
        sampled["generality"] += [
            Probe("generality", edit.id, text, wanted, length)
            for text in edit.rephrases
            if not _is_one_of(text, edit.also)
        ]
        sampled["locality"] += [
            Probe("locality", edit.id, probe.prompt, probe.answers, ANSWER_TOKENS)
            for probe in edit.locality
            if not _is_one_of(probe.prompt, edit.keep)
        ]
        sampled["portability"] += [
            Probe(
                "portability",
                edit.id,
                probe.prompt,
                _expected(edited, probe.answers),
                ANSWER_TOKENS,
            )
            for probe in edit.portability
            if probe.answers
        ]
    for some in sampled.values():
        probes += _sample(some)
    probes += [
        Probe(
            "test_retention",
            None,
            question.prompt,
            _expected(edited, question.answers),
            ANSWER_TOKENS,
        )
        for question in suite.questions
    ]
    return probes


def is_right(edited: EditedModel, answer: str, expected: tuple[str, ...]) -> bool:
    """Tell whether an answer hits: a class by its whole name, a text by how it begins."""
    return answer in expected if edited.base.task == "classifier" else is_hit(answer, expected)


def _is_one_of(text: str, learned: tuple[str, ...]) -> bool:
    """Tell whether an edit was learned from a text, which then does not score it."""
    return normal_text(text) in {normal_text(one) for one in learned}


def _length(edited: EditedModel, target: str) -> int:
    n_tokens = len(edited.tokenizer(target, add_special_tokens=False)["input_ids"])
    return max(ANSWER_TOKENS, n_tokens + MARGIN_TOKENS)


def _expected(edited: EditedModel, answers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the answers as the model gives them: a classifier's by the names of its classes."""
    if edited.base.task != "classifier":
        return answers
    names = {int(i): str(name) for i, name in edited.model.config.id2label.items()}
    return tuple(_class_name(edited, names, answer) for answer in answers)


def _class_name(edited: EditedModel, names: dict[int, str], answer: str) -> str:
    try:
        return names[class_index(edited.base, answer)]
    except InvalidInputError:  # a question that is about something else
        return answer


def _sample(probes: list[Probe]) -> list[Probe]:
    """Keep at most `MAX_PROBES`, chosen by digest: the same ones every time."""
    if len(probes) <= MAX_PROBES:
        return probes
    return sorted(probes, key=lambda p: json_digest([p.edit_id, p.prompt]))[:MAX_PROBES]
