"""GRACE: discrete key-value codebooks for lifelong editing, restated free of order.

Hartvigsen et al. 2023, "Aging with GRACE", arXiv:2211.11031. At one block of the model an edit is
an entry: where it answers (scope) and the vectors that are then put in the place of the block's
output (values). The paper's scope is a ball around the block's own output at the key token; it
changes neighbours when an entry is inserted (split on conflict, expand on agreement). Here entries
never change, and the radii in force are derived from the set of them (`patches.radii`), so that any
entry can be taken out as if it had never been there. The other scope is by meaning: a sentence
encoder decides whether the user asks what the edit asks (`patches.encoder_scope`), so that a
rephrased question is answered too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.contexts import Asking, askings, for_each
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Outcome, Progress
from mlflow_edit.editors.encoder_entries import encoder_codebook
from mlflow_edit.editors.hidden_entries import HiddenKeys, hidden_codebook
from mlflow_edit.editors.value_learning import Learned, Search, learn_values
from mlflow_edit.errors import UnsupportedModel
from mlflow_edit.models.architecture import Task, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import is_chat
from mlflow_edit.models.upper_blocks import Example, Learnable, prepare
from mlflow_edit.patches.patch import Patch
from mlflow_edit.patches.scope import ScopeKind

MAX_ROWS, MAX_TOKENS = 64, 4096  # of one pass: bounds memory whatever the size of the batch
SECOND_TRY = 0.3  # of the learning rate, for edits that the first try left unsolved
DTYPES = {"float16": torch.float16, "float32": torch.float32}
CHAT_SCOPE: ScopeKind = "encoder"  # of models with a chat template, where none is asked for


class GraceParams(EditorParams):
    """Settings of GRACE."""

    scope: Annotated[
        Literal["auto", "hidden", "encoder"],
        Field(
            default="auto",
            description="what decides whether an edit answers: the model's hidden state, or a "
            "sentence encoder; auto: encoder for models with a chat template, else hidden",
        ),
    ]
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
    span: Annotated[
        int,
        Field(default=3, ge=1, le=16, description="encoder scope: values of a fact"),
    ]
    text_span: Annotated[
        int, Field(default=1, ge=1, le=16, description="encoder scope: values of a text edit")
    ]
    contexts: Annotated[
        int,
        Field(
            default=2,
            ge=1,
            le=4,
            description="encoder scope: in how many contexts a value is learned; the first is the "
            "prompt alone, the others have little to do with it",
        ),
    ]
    threshold: Annotated[
        float,
        Field(
            default=0.6,
            gt=0,
            lt=1,
            allow_inf_nan=False,
            description="encoder scope: probability that a question asks the same, from which "
            "the edit answers",
        ),
    ]


class Grace(Editor[GraceParams]):
    """Learn one codebook entry for each edit."""

    name: ClassVar[str] = "grace"
    tasks: ClassVar[frozenset[Task]] = frozenset({"causal", "seq2seq", "classifier"})
    params_type: ClassVar[type[EditorParams]] = GraceParams

    def learn(
        self,
        base: BaseModel,
        batch: EditBatch,
        progress: Progress,
        *,
        earlier: Sequence[Edit] = (),
    ) -> Learning:
        """Learn a batch (see `Editor.learn`)."""
        params = self.params
        scope = _scope(params, base)
        site = locate(base.model, params.layer, scope=scope)
        n_contexts = params.contexts if scope == "encoder" else 1
        # a text edit answers its own prompt only, and is learned behind that alone
        asked = for_each(
            batch, lambda edit: askings(base, edit, 1 if edit.kind == "text" else n_contexts)
        )
        jobs = [
            _Job(i, edit, asked[i], self._span(edit, asked[i], scope))
            for i, edit in enumerate(batch)
        ]
        search = Search(
            params.learning_rate, params.max_steps, params.loss_target, DTYPES[params.dtype]
        )
        learned: dict[int, Learned] = {}
        keys: dict[int, tuple[Tensor, int]] = {}
        for chunk in _chunks(jobs):
            before = sum(bool(one.solved) for one in learned.values())

            def on_step(solved: int, loss: float, before: int = before) -> None:
                progress(before + solved, len(jobs), loss)

            prepared = prepare(base, site, _examples(chunk), span=chunk[0].span)
            result = _with_second_try(prepared, search, on_step)
            for owner, job in enumerate(chunk):
                alone = int((prepared.owners == owner).nonzero()[0, 0])
                keys[job.index] = (
                    prepared.keys[alone].float().cpu(),
                    int(prepared.key_tokens[alone]),
                )
                learned[job.index] = Learned(*(part[owner].cpu() for part in result.parts()))
        solved = [job for job in jobs if bool(learned[job.index].solved)]
        edits = [job.edit for job in solved]
        values = [learned[job.index].values.to(search.dtype) for job in solved]
        patch: Patch
        if scope == "encoder":
            patch = encoder_codebook(base, site, edits, values, threshold=params.threshold)
        else:
            radius = params.radius or params.relative_radius
            found = HiddenKeys.of([keys[job.index] for job in solved], width=len(keys[0][0]))
            patch = hidden_codebook(
                base, site, edits, values, found, radius=radius, relative=params.radius is None
            )
        return Learning(patch, tuple(_outcome(job.edit, learned[job.index]) for job in jobs))

    def _span(self, edit: Edit, asked: Sequence[Asking], scope: ScopeKind) -> int:
        """Return how many positions get a value: no more than the shortest prompt has."""
        if scope == "hidden":
            return 1
        wanted = self.params.text_span if edit.kind == "text" else self.params.span
        return min(wanted, *(len(one.prompt) for one in asked))


@dataclass(frozen=True, slots=True)
class _Job:
    """One edit to be learned, in its contexts."""

    index: int
    edit: Edit
    asked: tuple[Asking, ...]
    span: int

    @property
    def length(self) -> int:
        """The most tokens of a context and its answer."""
        return max(len(one.prompt) + len(one.answer) for one in self.asked)


def _scope(params: GraceParams, base: BaseModel) -> ScopeKind:
    """Decide by which scope to learn.

    Raises:
        UnsupportedModel: an encoder scope is asked for where prompts are not read as text.
    """
    if params.scope == "auto":
        return CHAT_SCOPE if is_chat(base) else "hidden"
    if params.scope == "encoder" and base.task != "causal":
        raise UnsupportedModel(
            f"scope=encoder edits models that continue text, not {base.task} models",
            hint="Leave the scope away, or give --param scope=hidden.",
        )
    return params.scope


def _outcome(edit: Edit, learned: Learned) -> Outcome:
    return Outcome(edit.id, bool(learned.solved), float(learned.losses), int(learned.steps))


def _examples(chunk: Sequence[_Job]) -> list[Example]:
    return [
        Example(one.prompt, one.answer, owner)
        for owner, job in enumerate(chunk)
        for one in job.asked
    ]


def _chunks(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Group edits of one span and like length, so that little is padded and memory is bounded."""
    order = sorted(jobs, key=lambda job: (job.span, len(job.asked[0].answer), job.length))
    chunks: list[list[_Job]] = []
    longest = rows = 0
    for job in order:
        longest, rows = max(longest, job.length), rows + len(job.asked)
        full = rows > MAX_ROWS or longest * rows > MAX_TOKENS
        if not chunks or full or chunks[-1][0].span != job.span:
            chunks.append([])
            longest, rows = job.length, len(job.asked)
        chunks[-1].append(job)
    return chunks


def _with_second_try(
    prepared: Learnable, search: Search, on_step: Callable[[int, float], None]
) -> Learned:
    """Learn all values; those left unsolved once more, from the start and more slowly.

    What cannot be had in all contexts is learned behind the prompt alone.
    """
    found = learn_values(prepared, search, on_step=on_step)
    slower = replace(search, learning_rate=search.learning_rate * SECOND_TRY)
    tries = [prepared]
    if len(prepared.owners) > len(found.solved):
        tries.append(prepared.alone())
    for some in tries:
        left = (~found.solved).nonzero()[:, 0]
        if not len(left):
            break
        done = int(found.solved.sum())

        def told(solved: int, loss: float, done: int = done) -> None:
            on_step(done + solved, loss)

        again = learn_values(some.select(left), slower, on_step=told)
        for mine, theirs in zip(found.parts(), again.parts(), strict=True):
            mine[left] = theirs
    return found
