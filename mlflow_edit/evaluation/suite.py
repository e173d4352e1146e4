"""Read suites: questions with answers, and plain texts, that no edit is about."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pydantic import ValidationError

from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import FrozenModel, Probe
from mlflow_edit.core.text import Text
from mlflow_edit.errors import InvalidInputError

DEFAULT_SUITE = "default"


class _PlainText(FrozenModel):
    text: Text


@dataclass(frozen=True, slots=True)
class Suite:
    """Questions for test retention and texts for perplexity."""

    name: str
    questions: tuple[Probe, ...]
    texts: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Name the suite by its content."""
        questions = [question.model_dump(mode="json") for question in self.questions]
        return json_digest([questions, list(self.texts)])


def default_suite() -> Suite:
    """Read the suite that ships with the package."""
    folder = resources.files("mlflow_edit.evaluation") / "suites"
    return parse_suite((folder / f"{DEFAULT_SUITE}.jsonl").read_text("utf-8"), name=DEFAULT_SUITE)


def parse_suite(text: str, *, name: str) -> Suite:
    """Read a suite: one JSON object a line, `{"prompt", "answers"}` or `{"text"}`.

    Raises:
        InvalidInputError: a line is malformed; all of them are named. Fields that a question does
            not have are passed over, so that data sets can be used as they are.
    """
    questions: list[Probe] = []
    texts: list[str] = []
    problems = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if isinstance(row, dict) and "text" in row and "prompt" not in row:
                texts.append(_PlainText(text=row["text"]).text)
            else:
                questions.append(_question(row))
        except (ValueError, TypeError, ValidationError, RecursionError) as error:
            problems.append(f"line {number}: {_first_line(error)}")
    if problems or not (questions or texts):
        listed = "\n  ".join(problems[:20]) or "it is empty"
        raise InvalidInputError(
            f"the suite {name} cannot be used:\n  {listed}",
            hint='Each line is {"prompt": …, "answers": […]} or {"text": …}.',
        )
    return Suite(name, tuple(questions), tuple(texts))


def _question(row: Any) -> Probe:
    if not isinstance(row, dict) or "prompt" not in row:
        raise ValueError("neither a 'prompt' nor a 'text'")
    answers = row.get("answers", [row["target"]] if "target" in row else [])
    if not isinstance(answers, Sequence) or isinstance(answers, str) or not answers:
        raise ValueError("'answers' must be a list that is not empty")
    return Probe(prompt=row["prompt"], answers=tuple(answers))


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"])
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return str(error).splitlines()[0]
