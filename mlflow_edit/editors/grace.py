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

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit_batch import EditBatch
from mlflow_edit.editors.contexts import Asking, askings, for_each
from mlflow_edit.editors.editor import Editor, EditorParams, Learning, Progress
from mlflow_edit.editors.encoder_entries import encoder_codebook
from mlflow_edit.editors.entry_learning import Job, learn_entries
from mlflow_edit.editors.hidden_entries import HiddenKeys, hidden_codebook
from mlflow_edit.editors.settings import blocks, loss_target, real, whole
from mlflow_edit.editors.value_learning import Search
from mlflow_edit.errors import UnsupportedModel
from mlflow_edit.models.architecture import Task, locate
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.prompts import is_chat
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.patch import Patch
from mlflow_edit.patches.scope import ScopeKind

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
    layer: str | None = blocks(
        "block to edit: its number, or its path in a model of unknown family"
    )
    radius: float | None = real(
        None,
        "deferral radius, L2 units of the block's output; unset: relative_radius",
        gt=0,
        lt=1e6,
    )
    relative_radius: float = real(
        0.035, "radius as a share of the median distance between unrelated questions", gt=0, le=2
    )
    learning_rate: float = real(
        0.25, "Adam's step, in units of the RMS of the block's output", gt=0, le=10
    )
    max_steps: int = whole(100, "steps before an edit is given up", le=10_000)
    loss_target: float = loss_target(0.05)
    dtype: Annotated[
        Literal["float16", "float32"],
        Field(
            default="float16",
            description="how values are stored, and keys where they keep their places",
        ),
    ]
    span: int = whole(3, "encoder scope: values of a fact", le=16)
    text_span: int = whole(1, "encoder scope: values of a text edit", le=16)
    contexts: int = whole(
        2,
        "encoder scope: in how many contexts a value is learned; the first is the prompt alone, "
        "the others have little to do with it",
        le=4,
    )
    threshold: float = real(
        0.6,
        "encoder scope: probability that a question asks the same, from which the edit answers",
        gt=0,
        lt=1,
    )


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
            Job(i, edit, asked[i], self._span(edit, asked[i], scope))
            for i, edit in enumerate(batch)
        ]
        search = Search(
            params.learning_rate, params.max_steps, params.loss_target, DTYPES[params.dtype]
        )
        entries = learn_entries(base, site, jobs, search, progress)
        solved = [entry for entry in entries if entry.solved]
        edits = [entry.edit for entry in solved]
        values = [entry.learned.values.to(search.dtype) for entry in solved]
        patch: Patch
        if scope == "encoder":
            patch = encoder_codebook(base, site, edits, values, threshold=params.threshold)
        else:
            radius = params.radius or params.relative_radius
            read = [(entry.key, entry.token) for entry in solved]
            found = HiddenKeys.of(read, width=len(entries[0].key))
            patch = hidden_codebook(
                base,
                site,
                edits,
                values,
                found,
                radius=radius,
                relative=params.radius is None,
                form=Codebook,
            )
        return Learning(patch, tuple(entry.outcome for entry in entries))

    def _span(self, edit: Edit, asked: Sequence[Asking], scope: ScopeKind) -> int:
        """Return how many positions get a value: no more than the shortest prompt has."""
        if scope == "hidden":
            return 1
        wanted = self.params.text_span if edit.kind == "text" else self.params.span
        return min(wanted, *(len(one.prompt) for one in asked))


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
