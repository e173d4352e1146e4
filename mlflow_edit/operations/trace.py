"""Trace which layers carry the answer to a prompt, to choose where an editor writes."""

from pathlib import Path

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.subjects import found_subject
from mlflow_edit.errors import InvalidInputError, VersionNotFound
from mlflow_edit.models.base_model import BaseModel, load_base
from mlflow_edit.models.tracing import Trace, trace_layers
from mlflow_edit.operations.init import base_folder
from mlflow_edit.operations.load import load
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry


class Traced(FrozenModel):
    """What a trace found: the effect of every block, and the one with the largest.

    `answer` is the token of the model's own answer that hangs most on the subject; `clean` and
    `noised` are its probabilities without and with noise on the subject; an effect is how much of
    the difference restoring the block brings back.
    """

    prompt: str
    subject: str
    answer: str
    clean: float
    noised: float
    effects: tuple[float, ...]
    layer: int


def trace(
    model: str,
    prompt: str,
    *,
    subject: str | None = None,
    n_samples: int = 10,
    noise: float = 3.0,
    seed: int = 0,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Traced:
    """Measure how much each block carries of what a prompt's subject brings to the answer.

    Args:
        model: `NAME@REF`, or a base as `init` takes it; a folder or hub id needs no store.
        prompt: what is asked.
        subject: what it is about; None takes the longest name in it.
        n_samples: how many times noise is drawn.
        noise: its size, in standard deviations of the embeddings.
        seed: of the noise.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: the subject is not known, or does not stand in the prompt; or a number
            is out of range.
        VersionNotFound, NotFoundError: there is no such model.
        UnsupportedModel: the model does not continue text.
    """
    if n_samples < 1 or not 0 < noise < float("inf") or not 0 <= seed < 2**63:
        raise InvalidInputError(
            f"n_samples is {n_samples}, noise {noise} and seed {seed}",
            hint="n_samples is at least 1, noise above 0, seed from 0 to 2^63 - 1.",
        )
    reporter = reporter or Silent()
    stage = reporter.stage
    about = subject or found_subject(prompt)
    if not about.strip():
        raise InvalidInputError("no name is found in the prompt", hint="Give --subject TEXT.")

    def traced(base: BaseModel) -> Trace:
        stage("tracing")
        return trace_layers(base, prompt, about, n_samples=n_samples, noise=noise, seed=seed)

    stage("loading the model")
    version = _registry_of(model, registry)
    if version is not None:
        with load(model, registry=version) as edited:
            found = traced(edited.base)
    else:
        found = traced(load_base(base_folder(model, registry, reporter)))
    highest = max(range(len(found.effects)), key=found.effects.__getitem__)
    return Traced(prompt=prompt, subject=about, layer=highest, **found._asdict())


def _registry_of(model: str, registry: Registry | None) -> Registry | None:
    """Return the registry that has such a version; None where it is a base model that is named.

    Raises:
        VersionNotFound: a version is named that is not there.
    """
    if Path(model).is_dir():
        return None
    try:
        registry = open_registry(registry)
        registry.resolve(parse_ref(model))
    except VersionNotFound:
        if "@" in model:
            raise
        return None
    except InvalidInputError:
        return None
    return registry
