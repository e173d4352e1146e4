"""GRACE: discrete key-value codebooks for lifelong editing, restated free of order.

Hartvigsen et al. 2023, "Aging with GRACE", arXiv:2211.11031. At one block of the model an edit is
an entry: the block's output at the key token (key), the vector that is put in its place (value)
and how near another input must come to get it (deferral radius). The paper changes neighbours when
an entry is inserted (split on conflict, expand on agreement); here entries never change, and the
radii in force are derived from the set of them (`patches.radii`), so that any entry can be taken
out as if it had never been there.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch, Problem, invalid_edits
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Outcome, Progress
from mlflow_edit.editors.value_learning import Learned, Search, learn_values
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.models.architecture import Site, Task, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import answer_ids, class_index, prompt_ids
from mlflow_edit.models.upper_blocks import Example, Learnable, prepare
from mlflow_edit.patches.codebook import PRECISION_SLACK, Codebook

MAX_ROWS, MAX_TOKENS = 64, 4096  # of one pass: bounds memory whatever the size of the batch
SECOND_TRY = 0.3  # of the learning rate, for edits that the first try left unsolved
ROUNDING = 0.05  # of the radius: how far a key may be moved by the type that it is stored in
DTYPES = {"float16": torch.float16, "float32": torch.float32}


class GraceParams(EditorParams):
    """Settings of GRACE."""

    layer: Annotated[
        str | None,
        Field(
            default=None,
            coerce_numbers_to_str=True,
            max_length=500,
            description="block to edit: its number, or its path in a model of unknown family",
        ),
    ]
    radius: Annotated[
        float | None,
        Field(
            default=None,
            gt=0,
            lt=1e6,
            allow_inf_nan=False,
            description="deferral radius, L2 units of the block's output; unset: relative_radius",
        ),
    ]
    relative_radius: Annotated[
        float,
        Field(
            default=0.035,
            gt=0,
            le=2,
            allow_inf_nan=False,
            description="radius as a share of the median distance between unrelated questions",
        ),
    ]
    learning_rate: Annotated[
        float,
        Field(
            default=0.25,
            gt=0,
            le=10,
            allow_inf_nan=False,
            description="Adam's step, in units of the RMS of the block's output",
        ),
    ]
    max_steps: Annotated[
        int, Field(default=100, ge=1, le=10_000, description="steps before an edit is given up")
    ]
    loss_target: Annotated[
        float,
        Field(
            default=0.05,
            gt=0,
            le=5,
            allow_inf_nan=False,
            description="mean loss of the answer's tokens, in nats, at which learning stops",
        ),
    ]
    dtype: Annotated[
        Literal["float16", "float32"],
        Field(
            default="float16",
            description="how values are stored, and keys where they keep their places",
        ),
    ]


class Grace(Editor[GraceParams]):
    """Learn one codebook entry for each edit."""

    name: ClassVar[str] = "grace"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal", "seq2seq", "classifier"})
    params_type: ClassVar[type[EditorParams]] = GraceParams

    def learn(self, base: BaseModel, batch: EditBatch, progress: Progress) -> Learning:
        """Learn a batch (see `Editor.learn`)."""
        params = self.params
        site = locate(base.model, params.layer)
        examples = _examples(base, batch)
        dtype = DTYPES[params.dtype]
        search = Search(params.learning_rate, params.max_steps, params.loss_target, dtype)
        radius = params.radius or params.relative_radius * _typical_distance(base, site)
        edits = list(batch)
        keys: dict[int, Tensor] = {}
        tokens: dict[int, int] = {}
        learned: dict[int, Learned] = {}
        for chunk in _chunks(examples):
            before = sum(bool(one.solved) for one in learned.values())

            def on_step(solved: int, loss: float, before: int = before) -> None:
                progress(before + solved, len(edits), loss)

            prepared = prepare(base, site, [examples[i] for i in chunk])
            result = _with_second_try(prepared, search, on_step)
            for row, i in enumerate(chunk):
                keys[i] = prepared.keys[row].float().cpu()
                tokens[i] = int(prepared.key_tokens[row])
                learned[i] = Learned(*(part[row].cpu() for part in result.parts()))
        solved = [i for i in range(len(edits)) if bool(learned[i].solved)]
        codebook = Codebook(
            layer=site.layer,
            stack=site.family.stack,
            keys=_rounded(_matrix([keys[i] for i in solved], keys[0]), dtype, radius),
            values=_matrix([learned[i].values for i in solved], keys[0]).to(dtype),
            radii=radius + _slack(_matrix([keys[i] for i in solved], keys[0]), base),
            key_tokens=torch.tensor([tokens[i] for i in solved], dtype=torch.long),
            labels=tuple(edits[i].label_digest for i in solved),
            edit_ids=tuple(edits[i].id for i in solved),
        )
        return Learning(codebook, tuple(_outcome(edits[i], learned[i]) for i in range(len(edits))))


def _outcome(edit: Edit, learned: Learned) -> Outcome:
    return Outcome(edit.id, bool(learned.solved), float(learned.losses), int(learned.steps))


def _matrix(rows: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(rows)) if rows else like.new_zeros((0, len(like)))


def _rounded(keys: Tensor, dtype: torch.dtype, radius: float) -> Tensor:
    """Store keys in `dtype`, unless rounding (or overflow) would move them out of their places."""
    rounded = keys.to(dtype)
    moved = (rounded.float() - keys).norm(dim=1)
    return rounded if bool((moved <= ROUNDING * radius).all()) else keys


def _examples(base: BaseModel, batch: EditBatch) -> list[Example]:
    """Tokenise every edit, naming all that cannot be put to this model.

    Raises:
        InvalidEdit: one or more cannot.
    """
    examples, problems = [], []
    for edit in batch:
        place, field = f"edit {edit.id}", "prompt"
        try:
            prompt = prompt_ids(base, edit.prompt)
            field = "target"
            if base.task == "classifier":
                answer = [class_index(base, edit.target)]
            else:
                answer = answer_ids(base, edit.target, prompt=edit.prompt)
            room = base.context_length - len(prompt) * (base.task == "causal")
            if len(answer) > room:
                raise InvalidInputError(f"{len(answer)} tokens; the context has room for {room}")
            examples.append(Example(tuple(prompt), tuple(answer)))
        except InvalidInputError as error:
            problems.append(Problem(place, field, error.message))
    if problems:
        raise invalid_edits(problems, n_edits=len(batch))
    return examples


def _chunks(examples: Sequence[Example]) -> list[list[int]]:
    """Group examples of like length, so that little is padded and memory is bounded."""
    order = sorted(
        range(len(examples)), key=lambda i: (len(examples[i].answer), len(examples[i].prompt))
    )
    chunks: list[list[int]] = []
    longest = 0
    for i in order:
        longest = max(longest, len(examples[i].prompt) + len(examples[i].answer))
        if (
            not chunks
            or len(chunks[-1]) >= MAX_ROWS
            or longest * (len(chunks[-1]) + 1) > MAX_TOKENS
        ):
            chunks.append([])
            longest = len(examples[i].prompt) + len(examples[i].answer)
        chunks[-1].append(i)
    return chunks


def _with_second_try(
    prepared: Learnable, search: Search, on_step: Callable[[int, float], None]
) -> Learned:
    """Learn all values; those left unsolved once more, from the start and more slowly."""
    first = learn_values(prepared, search, on_step=on_step)
    left = (~first.solved).nonzero()[:, 0]
    if not len(left):
        return first
    done = int(first.solved.sum())
    slower = replace(search, learning_rate=search.learning_rate * SECOND_TRY)
    second = learn_values(
        prepared.select(left), slower, on_step=lambda solved, loss: on_step(done + solved, loss)
    )
    for mine, theirs in zip(first.parts(), second.parts(), strict=True):
        mine[left] = theirs
    return first


def _slack(keys: Tensor, base: BaseModel) -> Tensor:
    """Return by how much a model of higher precision may miss keys that this one read."""
    dtype = next(base.model.parameters()).dtype
    if torch.finfo(dtype).bits >= 32:
        return torch.zeros(len(keys))
    slack: Tensor = PRECISION_SLACK * torch.finfo(dtype).eps * keys.float().norm(dim=1)
    return slack


def _typical_distance(base: BaseModel, site: Site) -> float:
    """Return the median distance from an unrelated question's key to the nearest other one's.

    The questions ship with the package: a radius means the same for every batch of a base model.
    """
    questions = (
        (resources.files("mlflow_edit.editors") / "calibration.txt").read_text().splitlines()
    )
    examples = [Example(tuple(prompt_ids(base, question)), (0,)) for question in questions]
    keys = prepare(base, site, examples).keys.float()
    distances = torch.cdist(keys, keys).fill_diagonal_(torch.inf)
    return float(distances.amin(dim=1).median())
