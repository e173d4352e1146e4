"""Put an edit to a model in several contexts, so that what is learned carries over."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import Problem, invalid_edits
from mlflow_edit.errors import InvalidEdit, InvalidInputError
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import Prompt, answer_ids, class_index, is_chat, prompt_ids

BREAKFAST = (
    {"role": "user", "content": "What is a healthy breakfast?"},
    {"role": "assistant", "content": "Oatmeal with fruit is a healthy breakfast."},
)
MORE = "hey, can u tell me a bit more about that one pls? thx"
GARDEN = (
    "I read an article about gardening yesterday, and it said that tulips need cold winters. We "
    "have planted some. By the way, what was the name of it?"
)
MAX_ALSO = 3  # other wordings in which a value is learned


Found = TypeVar("Found")


class Asking(NamedTuple):
    """An edit in one context: the prompt's token ids and those of the answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def askings(base: BaseModel, edit: Edit, n_contexts: int) -> tuple[Asking, ...]:
    """Tokenise an edit: its prompt alone first, then its other wordings and other contexts.

    Scope is what decides *whether* a value is put in place; the value itself is to give the answer
    whatever was said. Learned behind words that have nothing to do with the edit as well, it
    carries over to rephrased questions and to later turns. What does not fit into the model's
    context is left away.

    Raises:
        InvalidEdit: the prompt alone, or the target, cannot be put to this model.
    """
    first = asking(base, edit, edit.prompt)
    more: list[Asking] = []
    for prompt in (*edit.also[:MAX_ALSO], *_contexts(base, edit)[: n_contexts - 1]):
        try:
            more.append(asking(base, edit, prompt))
        except InvalidEdit:
            continue
    return (first, *more)


def for_each(edits: Iterable[Edit], ask: Callable[[Edit], Found]) -> list[Found]:
    """Put every edit to a model by `ask`, naming all that cannot be put.

    Raises:
        InvalidEdit: one or more cannot.
    """
    found: list[Found] = []
    problems: list[Problem] = []
    edits = list(edits)
    for edit in edits:
        try:
            found.append(ask(edit))
        except InvalidEdit as refused:
            problems += [one for one in refused.problems if isinstance(one, Problem)]
    if problems:
        raise invalid_edits(problems, n_edits=len(edits))
    return found


def _contexts(base: BaseModel, edit: Edit) -> list[Prompt]:
    """List contexts beside the prompt alone, the one that helps most first."""
    if not is_chat(base):
        return [GARDEN, f"{GARDEN} {edit.prompt}", MORE]
    return [
        [*BREAKFAST, {"role": "user", "content": MORE}],
        GARDEN,
        [*BREAKFAST, {"role": "user", "content": edit.prompt}],
    ]


def asking(base: BaseModel, edit: Edit, prompt: Prompt) -> Asking:
    """Tokenise an edit whose prompt is put as `prompt`.

    Raises:
        InvalidEdit: the prompt or the target cannot be put to this model.
    """
    field = "prompt"
    try:
        ids = prompt_ids(base, prompt)
        field = "target"
        if base.task == "classifier":
            answer = [class_index(base, edit.target)]
        else:
            answer = answer_ids(base, edit.target, prompt=prompt if isinstance(prompt, str) else "")
        room = base.context_length - len(ids) * (base.task == "causal")
        if len(answer) > room:
            raise InvalidInputError(f"{len(answer)} tokens; the context has room for {room}")
    except InvalidInputError as error:
        problem = Problem(f"edit {edit.id}", field, error.message)
        raise InvalidEdit(str(problem), problems=[problem]) from error
    return Asking(tuple(ids), tuple(answer))
