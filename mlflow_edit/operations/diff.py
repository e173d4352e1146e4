"""What differs between two versions: batches, edits, scopes, scores, and answers if asked for."""

from collections.abc import Sequence
from pathlib import Path

from mlflow_edit.core.answers import is_unchanged
from mlflow_edit.core.content import Content
from mlflow_edit.core.diff import (
    BatchesDiff,
    EditsDiff,
    MetricDiff,
    diff_batches,
    diff_edits,
    diff_scorecards,
)
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.edit_file import read_records
from mlflow_edit.core.results import Fired
from mlflow_edit.errors import BaseMismatchError, InvalidInputError
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.edit_changes import edit_changes
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import Composition, Part, compose
from mlflow_edit.patches.delta_measures import frobenius
from mlflow_edit.patches.overlap import changed_radii
from mlflow_edit.patches.patch import Patch
from mlflow_edit.patches.weights import Weights
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry, VersionInfo

ANSWER_TOKENS = 64


class RadiusDiff(FrozenModel):
    """An entry of both versions whose deferral radius in force is not the same in both."""

    edit_id: str
    batch: str
    old: float
    new: float


class TensorDiff(FrozenModel):
    """A weight that the versions' deltas change differently, and the Frobenius norm of that.

    `norm` is null where a dense change takes part: only the base model could tell.
    """

    tensor: str
    norm: float | None


class AnswerDiff(FrozenModel):
    """A prompt, the answers of both versions, and which edits gave them (None: the base)."""

    prompt: str
    old: str
    new: str
    old_fired: Fired | None
    new_fired: Fired | None
    changed: bool


class Diff(FrozenModel):
    """What differs between an old and a new version; empty where they do the same."""

    name: str
    old: int
    new: int
    batches: BatchesDiff
    edits: EditsDiff
    radii: tuple[RadiusDiff, ...] = ()
    scorecard: tuple[MetricDiff, ...] = ()
    answers: tuple[AnswerDiff, ...] = ()
    tensors: tuple[TensorDiff, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Tell whether the versions do the same."""
        parts = (self.batches.added, self.batches.removed, self.edits.added, self.edits.removed)
        moved = any(answer.changed for answer in self.answers)
        same = not any(parts) and not self.edits.changed
        return same and not self.radii and not self.tensors and not moved


def diff(
    old: str,
    new: str,
    *,
    prompts: str | Path | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Diff:
    """Compare two versions. `diff(a, a)` is empty; `diff(b, a)` mirrors `diff(a, b)`.

    Edits are read only of batches that differ; the keys of the others only where scopes changed.

    Args:
        old: `NAME@REF`.
        new: `NAME@REF`.
        prompts: a file of prompts (one a line, or `.jsonl` with `prompt`): which are answered
            differently, generated on both.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        VersionNotFound: there is no such version.
        InvalidInputError: the prompts cannot be read.
        BaseMismatchError: prompts were given, and the versions edit different base models.
    """
    asked = read_prompts(Path(prompts)) if prompts is not None else []
    registry, reporter = open_registry(registry), reporter or Silent()
    infos = registry.resolve(parse_ref(old)), registry.resolve(parse_ref(new))
    manifests = registry.manifest(infos[0]), registry.manifest(infos[1])
    before, after = Content.of(manifests[0]), Content.of(manifests[1])
    gone, come = edit_changes(registry, before, after)
    radii: tuple[RadiusDiff, ...] = ()
    answers: tuple[AnswerDiff, ...] = ()
    tensors: tuple[TensorDiff, ...] = ()
    if gone or come:
        patches: dict[str, Patch] = {}
        was, now = (_composed(registry, side, patches) for side in (before, after))
        radii, tensors = _radii(was, now), _tensors(was.weights, now.weights)
    if asked:
        answers = _answers(registry, infos, asked, reporter)
    cards = [registry.scorecard(i, m) for i, m in zip(infos, manifests, strict=True)]
    return Diff(
        name=infos[0].name,
        old=infos[0].version,
        new=infos[1].version,
        batches=diff_batches(before.batches, after.batches),
        edits=diff_edits(gone, come),
        radii=radii,
        scorecard=diff_scorecards(*cards),
        answers=answers,
        tensors=tensors,
    )


def read_prompts(path: Path) -> list[str]:
    """Read prompts: the lines of a text file, or the field `prompt` of `.jsonl`, `.json`, `.csv`.

    Raises:
        InvalidInputError: the file cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the prompts {path} cannot be read: {error}") from error
    format = path.suffix.lower().lstrip(".")
    if format not in ("jsonl", "json", "csv", "yaml", "yml"):
        found = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        records = list(read_records(text, format=format))
        values = [r.value.get("prompt") if isinstance(r.value, dict) else None for r in records]
        bad = next(
            (r for r, v in zip(records, values, strict=True) if not isinstance(v, str)), None
        )
        if bad is not None:
            raise InvalidInputError(f"{path.name} {bad.where}: {bad.problem or 'no prompt'}")
        found = [value for value in values if isinstance(value, str) and value.strip()]
    if not found:
        raise InvalidInputError(f"{path} holds no prompts")
    return found


def _composed(registry: Registry, content: Content, patches: dict[str, Patch]) -> Composition:
    """Compose a content, reading each patch once into `patches`."""
    out: dict[str, set[str]] = {}
    for batch, edit in content.excluded():
        out.setdefault(batch, set()).add(edit)
    for digest, ref in content.batches.items():
        if digest not in patches:
            patches[digest] = registry.patch(ref)
    return compose(
        [Part(d, patches[d], frozenset(out.get(d, ()))) for d in sorted(content.batches)]
    )


def _radii(old: Composition, new: Composition) -> tuple[RadiusDiff, ...]:
    """Compare the radii in force of the entries that both have; an encoder's never change."""
    before = {b.place: b for b in old.patches if isinstance(b, Codebook)}
    found = [
        RadiusDiff(
            edit_id=book.edit_ids[i],
            batch=new.batch_of[book.entry_digests[i]],
            old=radius,
            new=now,
        )
        for book in new.patches
        if isinstance(book, Codebook) and book.place in before
        for i, radius, now in changed_radii(before[book.place], book)
    ]
    return tuple(sorted(found, key=lambda one: (one.batch, one.edit_id)))


def _tensors(old: Weights | None, new: Weights | None) -> tuple[TensorDiff, ...]:
    """Compare the deltas in force, weight by weight."""
    before, after = dict(old.parts if old else ()), dict(new.parts if new else ())
    added = [c for batch, delta in after.items() if batch not in before for c in delta.changes]
    removed = [c for batch, delta in before.items() if batch not in after for c in delta.changes]
    return tuple(
        TensorDiff(
            tensor=name,
            norm=frobenius(
                [c for c in added if c.tensor == name], [c for c in removed if c.tensor == name]
            ),
        )
        for name in sorted({change.tensor for change in (*added, *removed)})
    )


def _answers(
    registry: Registry,
    infos: tuple[VersionInfo, VersionInfo],
    prompts: Sequence[str],
    reporter: Reporter,
) -> tuple[AnswerDiff, ...]:
    manifests = [registry.manifest(info) for info in infos]
    if manifests[0].base.digest != manifests[1].base.digest:
        raise BaseMismatchError("the two versions edit different base models")
    reporter.stage("loading the base model")
    base = load_pinned(registry, manifests[0].base)
    reporter.stage("answering")
    given = []
    patches: dict[str, Patch] = {}
    for manifest in manifests:
        content = Content.of(manifest)
        with EditedModel(base, _composed(registry, content, patches)) as edited:
            given.append(generate_answers(edited, prompts, max_new_tokens=ANSWER_TOKENS))
    return tuple(
        AnswerDiff(
            prompt=prompt,
            old=a.text,
            new=b.text,
            old_fired=a.fired,
            new_fired=b.fired,
            changed=not is_unchanged(b.text, a.text),
        )
        for prompt, a, b in zip(prompts, *given, strict=True)
    )
