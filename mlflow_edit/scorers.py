"""Scorers of `mlflow.genai.evaluate`: reliability, generality, locality and portability.

They judge by the rules of every scorecard. `rows` makes the data that they read, `answering` the
function that answers; a scorer passes over the rows that are about another metric.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from mlflow.genai import scorer

from mlflow_edit.core.answers import is_hit, is_unchanged
from mlflow_edit.core.edit import Edit
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.evaluation.probes import Probe, collect_probes
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.models.edited_model import EditedModel

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
def reliability(outputs: Any, expectations: dict[str, Any]) -> bool | None:
    """Tell whether the prompt of an edit is answered by its target."""
    return _hit("reliability", outputs, expectations)


@scorer  # type: ignore[untyped-decorator]
def generality(outputs: Any, expectations: dict[str, Any]) -> bool | None:
    """Tell whether a rephrase is answered by the target."""
    return _hit("generality", outputs, expectations)


@scorer  # type: ignore[untyped-decorator]
def portability(outputs: Any, expectations: dict[str, Any]) -> bool | None:
    """Tell whether a downstream consequence is answered rightly."""
    return _hit("portability", outputs, expectations)


@scorer  # type: ignore[untyped-decorator]
def locality(outputs: Any, expectations: dict[str, Any]) -> bool | None:
    """Tell whether an unrelated prompt is answered as the base model does."""
    if expectations.get("metric") != "locality":
        return None
    return is_unchanged(str(outputs), expectations["answers"][0])


def _expected(edited: EditedModel, probe: Probe) -> list[str]:
    if probe.metric != "locality":
        return list(probe.expected)
    return [_answer(edited, probe.prompt, probe.max_new_tokens, base_only=True)]


def _hit(metric: str, outputs: Any, expectations: dict[str, Any]) -> bool | None:
    if expectations.get("metric") != metric:
        return None
    if expectations.get("exact"):
        return str(outputs) in expectations["answers"]
    return is_hit(str(outputs), expectations["answers"])


def _answer(edited: EditedModel, prompt: str, length: int, *, base_only: bool) -> str:
    found = generate_answers(edited, [prompt], max_new_tokens=length, base_only=base_only)
    return found[0].text
