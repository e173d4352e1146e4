"""Put an edit to a model in several contexts, so that what is learned carries over."""

from typing import NamedTuple

from mlflow_edit.core.edit import Edit
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import Prompt, answer_ids, class_index, is_chat, prompt_ids

GREETED = (
    {"role": "user", "content": "Hello! I have a few questions."},
    {"role": "assistant", "content": "Hello! Of course, ask me anything."},
)
PREFACES = ("I need this for my notes. ", "A quick question: ")


class Asking(NamedTuple):
    """An edit in one context: the prompt's token ids and those of the answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class InvalidEditField(InvalidInputError):
    """An edit cannot be put to a model, because of one of its fields."""

    def __init__(self, field: str, error: InvalidInputError) -> None:
        super().__init__(error.message)
        self.field = field


def askings(base: BaseModel, edit: Edit, n_contexts: int) -> tuple[Asking, ...]:
    """Tokenise an edit: its prompt alone first, then its other wordings and contexts.

    Contexts in which prompt and answer are longer than the model's own are left away.

    Raises:
        InvalidEditField: the prompt alone, or the target, cannot be put to this model.
    """
    first = _asking(base, edit, edit.prompt)
    more: list[Asking] = []
    for prompt in _contexts(base, edit)[: n_contexts - 1]:
        try:
            more.append(_asking(base, edit, prompt))
        except InvalidEditField:
            continue
    return (first, *more)


def _contexts(base: BaseModel, edit: Edit) -> list[Prompt]:
    """List the contexts of an edit, the most telling first."""
    found: list[Prompt] = list(edit.also)
    if is_chat(base):
        found.append([*GREETED, {"role": "user", "content": edit.prompt}])
    found += [preface + edit.prompt for preface in PREFACES]
    return found


def _asking(base: BaseModel, edit: Edit, prompt: Prompt) -> Asking:
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
        raise InvalidEditField(field, error) from error
    return Asking(tuple(ids), tuple(answer))
