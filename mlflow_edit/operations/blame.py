"""Which edit answers a prompt, and who brought it."""

from collections.abc import Mapping

from mlflow_edit.core.content import Content
from mlflow_edit.core.contextual import deltas_of
from mlflow_edit.core.edit import Edit, FrozenModel
from mlflow_edit.core.lineage import Lineage
from mlflow_edit.core.manifest import Manifest
from mlflow_edit.core.results import Fired, Provenance
from mlflow_edit.core.text import counted
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.nearest import Candidate, nearest_edits, unlikeness
from mlflow_edit.operations.next_version import parts_of
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.patches.composition import compose
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.registry.stored_batch import StoredBatch

ANSWER_TOKENS = 64
MOST_LEFT_OUT = 8  # deltas; of more, those are left out whose edits are nearest in words


class Origin(FrozenModel):
    """What brought an edit: the first version with its batch, the run, who, and from where."""

    version: int
    digest: str
    run_id: str
    author: str
    created_at: str
    message: str
    edits_from: Provenance | None


class InForce(FrozenModel):
    """A weight delta that has a part in every answer, and what brought it.

    `without` is what the version answers with this delta alone left out; None where that was not
    tried: an entry answers, or the base model says the same.
    """

    batch: str
    editor: str
    n_edits: int
    origin: Origin
    without: str | None = None


class Blamed(FrozenModel):
    """Why a version answers a prompt as it does.

    `fired` is None where no entry answers: then the model's own weights do, with `deltas` in force
    on them. `others` answered the other questions of a prompt that asks several. `nearest` are the
    edits nearest to the prompt, the one that answers first; those of deltas by their words, for
    weights do not say which edit is at work. Which delta is can be tried: `decisive`.
    """

    name: str
    version: int
    prompt: str
    answer: str
    base_answer: str
    fired: Fired | None
    edit: Edit | None
    origin: Origin | None
    nearest: tuple[Candidate, ...]
    others: tuple[Fired, ...] = ()
    deltas: tuple[InForce, ...] = ()

    @property
    def decisive(self) -> tuple[str, ...]:
        """The deltas without any one of which the answer would be another."""
        tried = [one for one in self.deltas if one.without is not None]
        return tuple(one.batch for one in tried if one.without != self.answer)


def blame(
    ref: str,
    prompt: str,
    *,
    n_nearest: int = 3,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Blamed:
    """Say which edit answers a prompt, how near it is, and what brought it.

    Args:
        ref: `NAME@REF`.
        prompt: the question.
        n_nearest: how many near edits to list.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        InvalidInputError: the prompt is empty, or longer than the model's context.
        VersionNotFound: there is no such version.
    """
    if not prompt.strip():
        raise InvalidInputError("there is no prompt", hint='mledit blame NAME "A question?"')
    from mlflow_edit.registry.flavor import load_edited

    registry, reporter = open_registry(registry), reporter or Silent()
    info = registry.resolve(parse_ref(ref))
    manifest = registry.manifest(info)
    batches = registry.batches(manifest)
    edits = {(digest, e.id): e for digest, batch in batches.items() for e in batch.edits}
    reporter.stage("loading the base model")
    with load_edited(registry, manifest) as edited:
        reporter.stage("answering")
        near = nearest_edits(edited, edits, prompt, n_nearest=n_nearest)
        answer = generate_answers(edited, [prompt], max_new_tokens=ANSWER_TOKENS)[0]
        plain = generate_answers(edited, [prompt], max_new_tokens=ANSWER_TOKENS, base_only=True)[0]
    fired = answer.fired
    hangs = fired is None and answer.text != plain.text
    without = _without_each(edited.base, manifest, batches, prompt, reporter) if hangs else {}
    first = [(fired.edit_id, fired.batch)] if fired else []
    near.sort(key=lambda c: (c.edit_id, c.batch) not in first)
    return Blamed(
        name=info.name,
        version=info.version,
        prompt=prompt,
        answer=answer.text,
        base_answer=plain.text,
        fired=fired,
        others=answer.others,
        edit=edits[fired.batch, fired.edit_id] if fired else None,
        origin=origin_of(registry, info, manifest, fired.batch) if fired else None,
        nearest=tuple(near[:n_nearest]),
        deltas=tuple(
            InForce(
                batch=digest,
                editor=ref.editor,
                n_edits=ref.n_edits,
                origin=origin_of(registry, info, manifest, digest),
                without=without.get(digest),
            )
            for digest, ref in deltas_of(manifest).items()
        ),
    )


def _without_each(
    base: BaseModel,
    manifest: Manifest,
    batches: Mapping[str, StoredBatch],
    prompt: str,
    reporter: Reporter,
) -> dict[str, str]:
    """Return what a version answers with one delta left out, by its digest: each in turn.

    Of many, those are left out whose edits are nearest in words.
    """

    def unlike(digest: str) -> float:
        return min((unlikeness(prompt, edit.prompt) for edit in batches[digest].edits), default=1.0)

    nearest = sorted(deltas_of(manifest), key=lambda digest: (unlike(digest), digest))
    tried = nearest[:MOST_LEFT_OUT]
    reporter.stage(f"answering without {counted(len(tried), 'delta')}, one at a time")
    parts = parts_of(Content.of(manifest), batches)
    answers = {}
    for digest in tried:
        with EditedModel(base, compose([p for p in parts if p.batch != digest])) as edited:
            answer = generate_answers(edited, [prompt], max_new_tokens=ANSWER_TOKENS)[0]
        answers[digest] = answer.text
    return answers


def origin_of(registry: Registry, info: VersionInfo, manifest: Manifest, batch: str) -> Origin:
    """Find the version that first listed a batch, among those that `info` descends from."""
    run_id = next(ref.run_id for ref in manifest.batches if ref.digest == batch)
    versions = {one.digest: one for one in registry.versions(info.name)}
    lineage = Lineage({digest: one.parents for digest, one in versions.items()})
    line = [versions[digest] for digest in lineage.in_order(lineage.ancestors(info.digest))]
    first = next((one for one in line if one.run_id == run_id), None)
    if first is None:  # picked from another line, or learned before and reverted
        listed = (v for v in line if batch in {r.digest for r in registry.manifest(v).batches})
        first = next(listed, info)
    return Origin(
        version=first.version,
        digest=first.digest,
        run_id=run_id,
        author=first.author,
        created_at=first.created_at,
        message=first.message,
        edits_from=registry.provenance(run_id),
    )
