"""What differs between two versions: batches, edits, scopes, scores, and answers if asked for."""

from pathlib import Path

from mlflow_edit.core.content import Content
from mlflow_edit.core.diff import (
    AnswerDiff,
    BatchesDiff,
    EditsDiff,
    MetricDiff,
    RadiusDiff,
    TensorDiff,
    diff_batches,
    diff_edits,
    diff_scorecards,
)
from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.edit_file import read_records
from mlflow_edit.core.gate import other_protocol
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.operations.edit_changes import edit_changes
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import Registry, VersionInfo


class Diff(FrozenModel):
    """What differs between an old and a new version; empty where they do the same.

    `protocol` names what of the protocol was not the same: such scores cannot be compared;
    nothing, where one of the two was not measured.
    """

    name: str
    old: int
    new: int
    batches: BatchesDiff
    edits: EditsDiff
    radii: tuple[RadiusDiff, ...] = ()
    scorecard: tuple[MetricDiff, ...] = ()
    protocol: tuple[str, ...] = ()
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
    found = diff_versions(*infos, registry=registry)
    if not asked:
        return found
    from mlflow_edit.operations.composed_diff import diff_answers

    answers = diff_answers(registry, infos, asked, reporter)
    return found.model_copy(update={"answers": answers})


def diff_versions(
    old: VersionInfo, new: VersionInfo, *, scopes: bool = True, registry: Registry
) -> Diff:
    """Compare two versions but for their answers (see `diff`).

    Args:
        old: of a model.
        new: of the same model.
        scopes: compare radii in force and weights too, for which every patch is read.
        registry: where.
    """
    manifests = registry.manifest(old), registry.manifest(new)
    before, after = Content.of(manifests[0]), Content.of(manifests[1])
    gone, come = edit_changes(registry, before, after)
    radii: tuple[RadiusDiff, ...] = ()
    tensors: tuple[TensorDiff, ...] = ()
    if scopes and (gone or come):
        from mlflow_edit.operations.composed_diff import diff_scopes

        radii, tensors = diff_scopes(registry, before, after)
    cards = registry.scorecard(old, manifests[0]), registry.scorecard(new, manifests[1])
    return Diff(
        name=old.name,
        old=old.version,
        new=new.version,
        batches=diff_batches(before.batches, after.batches),
        edits=diff_edits(gone, come),
        radii=radii,
        scorecard=diff_scorecards(*cards),
        protocol=tuple(other_protocol(*cards)) if all(c.protocol for c in cards) else (),
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
