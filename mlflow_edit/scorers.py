"""Scorers of `mlflow.genai.evaluate`: reliability, generality, locality and portability.

They judge by the rules of every scorecard. `rows` makes the data that they read, `answering` the
function that answers; a scorer passes over the rows that are about another metric. Where nothing
was answered nothing is right.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from mlflow.genai import scorer

from mlflow_edit.core.answers import is_hit, is_unchanged
from mlflow_edit.core.edit import Edit
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.evaluation.probes import Probe, collect_probes
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.models.edited_model import EditedModel

Expectations = dict[str, Any] | None

__all__ = ["answering", "generality", "locality", "portability", "reliability", "rows"]


def rows(edited: EditedModel, edits: Iterable[Edit]) -> list[dict[str, Any]]:
    """Make one row for each prompt and probe of the edits, with what is expected of the answer.

    The base model is asked the locality probes here: its answers are what must not change.

    Args:
        edited: the model, as `mlflow_edit.load` gives it.
        edits: what it is asked about; prompts that an edit was learned from are left out.
    """
    some = list(edits)
    new = frozenset(edit.digest for edit in some)
    probes = collect_probes(edited, some, new, Suite("none", (), ()))
    return [
        {
            "inputs": {"prompt": probe.prompt, "max_new_tokens": probe.max_new_tokens},
            "expectations": {
                "metric": probe.metric,
                "edit_id": probe.edit_id,
                "exact": edited.base.task == "classifier",
                "answers": _expected(edited, probe),
            },
        }
        for probe in probes
    ]


def answering(edited: EditedModel, *, base_only: bool = False) -> Callable[..., str]:
    """Return the `predict_fn` that answers one prompt, greedily; safe to call from many threads.

    Args:
        edited: the model.
        base_only: let the base model answer, to see both side by side.
    """
    lock = threading.Lock()

    def answer(prompt: str, max_new_tokens: int) -> str:
        with lock:
            return _answer(edited, prompt, max_new_tokens, base_only=base_only)

    return answer


@scorer  # type: ignore[untyped-decorator]
def reliability(outputs: Any, expectations: Expectations = None) -> bool | None:
    """Tell whether the prompt of an edit is answered by its target."""
    return _hit("reliability", outputs, expectations)


@scorer  # type: ignore[untyped-decorator]
def generality(outputs: Any, expectations: Expectations = None) -> bool | None:
    """Tell whether a rephrase is answered by the target."""
    return _hit("generality", outputs, expectations)


@scorer  # type: ignore[untyped-decorator]
def portability(outputs: Any, expectations: Expectations = None) -> bool | None:
    """Tell whether a downstream consequence is answered rightly."""
    return _hit("portability", outputs, expectations)


@scorer  # type: ignore[untyped-decorator]
def locality(outputs: Any, expectations: Expectations = None) -> bool | None:
    """Tell whether an unrelated prompt is answered as the base model does."""
    expected = _answers("locality", expectations)
    if expected is None or outputs is None:
        return None if expected is None else False
    return is_unchanged(_text(outputs), expected[0])


def _expected(edited: EditedModel, probe: Probe) -> list[str]:
    if probe.metric != "locality":
        return list(probe.expected)
    return [_answer(edited, probe.prompt, probe.max_new_tokens, base_only=True)]


def _hit(metric: str, outputs: Any, expectations: Expectations) -> bool | None:
    expected = _answers(metric, expectations)
    if expected is None or outputs is None:
        return None if expected is None else False
    answer = _text(outputs)
    exact = bool(expectations and expectations.get("exact"))
    return answer in expected if exact else is_hit(answer, expected)


def _answers(metric: str, expectations: Expectations) -> list[str] | None:
    """Return the right answers of a row, None where it is about another metric."""
    if not expectations or expectations.get("metric") != metric:
        return None
    given: Any = expectations.get("answers")
    given = given.tolist() if hasattr(given, "tolist") else given
    found = [given] if isinstance(given, str) else given
    if isinstance(found, list | tuple) and found and all(isinstance(one, str) for one in found):
        return list(found)
    raise InvalidInputError(
        f"a row about {metric} has no answers to compare with: {str(given)[:100]}",
        hint="mlflow_edit.scorers.rows makes rows that have.",
    )


def _text(outputs: Any) -> str:
    """Read one answer; the text of a list or an object would be judged with its brackets."""
    if isinstance(outputs, str | int | float):
        return str(outputs)
    raise InvalidInputError(
        f"expected an answer as text, found {type(outputs).__name__}",
        hint="Let predict_fn return the text of one answer.",
    )


def _answer(edited: EditedModel, prompt: str, length: int, *, base_only: bool) -> str:
    found = generate_answers(edited, [prompt], max_new_tokens=length, base_only=base_only)
    return found[0].text
