"""Put questions to a version: the base model's answer and the edited one's, side by side."""

from collections.abc import Sequence

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.results import Fired
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.operations.load import load
from mlflow_edit.operations.nearest import Candidate, nearest_edits
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry

N_NEAREST = 3


class Asked(FrozenModel):
    """One question, both answers, and the edit that gave the second (null: the base model).

    `others` are the edits that answered the other questions of a prompt that asks several,
    `nearest` those nearest to it, where an explanation was asked for.
    """

    prompt: str
    base: str
    edited: str
    fired: Fired | None
    others: tuple[Fired, ...] = ()
    nearest: tuple[Candidate, ...] = ()


class Answers(FrozenModel):
    """The answers of one version; `deltas` are the batches in force on its weights."""

    name: str
    version: int
    answers: tuple[Asked, ...]
    deltas: tuple[str, ...] = ()


def ask(
    ref: str,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 64,
    explain: bool = False,
    disabled: Sequence[str] = (),
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Answers:
    """Answer questions by the base model and by a version of it.

    Args:
        ref: `NAME@REF`.
        prompts: the questions.
        max_new_tokens: the longest answer.
        explain: list the edits nearest to each question, in force or not.
        disabled: ids of edits to leave out.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: no question, an empty one, or one longer than the model's context.
        VersionNotFound: there is no such version.
        BaseMismatchError, IntegrityError: what is stored is not what was registered.
    """
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise InvalidInputError("there is nothing to ask", hint='mledit ask NAME "A question?"')
    registry, reporter = open_registry(registry), reporter or Silent()
    info = registry.resolve(parse_ref(ref))
    reporter.stage("loading the model")
    near: list[tuple[Candidate, ...]] = [()] * len(prompts)
    with load(f"{info.name}@{info.version}", disabled=disabled, registry=registry) as edited:
        reporter.stage("answering")
        weights = edited.composition.weights
        if explain:
            refs = registry.manifest(info).batches
            edits = {(ref.digest, e.id): e for ref in refs for e in registry.edits(ref)}
            near = [
                tuple(nearest_edits(edited, edits, prompt, n_nearest=N_NEAREST)[:N_NEAREST])
                for prompt in prompts
            ]
        after = generate_answers(edited, prompts, max_new_tokens=max_new_tokens)
        before = generate_answers(edited, prompts, max_new_tokens=max_new_tokens, base_only=True)
    return Answers(
        name=info.name,
        version=info.version,
        answers=tuple(
            Asked(
                prompt=prompt,
                base=b.text,
                edited=a.text,
                fired=a.fired,
                others=a.others,
                nearest=n,
            )
            for prompt, b, a, n in zip(prompts, before, after, near, strict=True)
        ),
        deltas=weights.batches if weights else (),
    )
