"""What of a difference only the patches tell: radii in force, weights, and answers."""

from collections.abc import Sequence

from mlflow_edit.core.answers import is_unchanged
from mlflow_edit.core.content import Content
from mlflow_edit.core.diff import AnswerDiff, RadiusDiff, TensorDiff
from mlflow_edit.errors import BaseMismatchError
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.operations.reporter import Reporter
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.composition import Composition, Part, compose
from mlflow_edit.patches.delta_measures import frobenius
from mlflow_edit.patches.overlap import changed_radii
from mlflow_edit.patches.patch import Patch
from mlflow_edit.patches.weights import Weights
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry, VersionInfo

ANSWER_TOKENS = 64


def diff_scopes(
    registry: Registry, old: Content, new: Content
) -> tuple[tuple[RadiusDiff, ...], tuple[TensorDiff, ...]]:
    """Compare the radii in force, and the weights that the deltas give."""
    patches: dict[str, Patch] = {}
    was, now = (_composed(registry, side, patches) for side in (old, new))
    return _radii(was, now), _tensors(was.weights, now.weights)


def diff_answers(
    registry: Registry,
    infos: tuple[VersionInfo, VersionInfo],
    prompts: Sequence[str],
    reporter: Reporter,
) -> tuple[AnswerDiff, ...]:
    """Answer prompts by both versions.

    Raises:
        BaseMismatchError: they edit different base models.
    """
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
    before = {(b.layer, b.stack): b for b in old.patches if isinstance(b, Codebook)}
    found = [
        RadiusDiff(
            edit_id=book.edit_ids[i],
            batch=new.batch_of[book.entry_digests[i]],
            old=radius,
            new=now,
        )
        for book in new.patches
        if isinstance(book, Codebook) and (book.layer, book.stack) in before
        for i, radius, now in changed_radii(before[book.layer, book.stack], book)
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
