"""The edits that are learned in one `apply`: an ordered, immutable, consistent set."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_edit.core.digest import canonical_json, json_digest
from mlflow_edit.core.edit import Edit, normal_text
from mlflow_edit.core.text import counted, printable
from mlflow_edit.errors import InvalidEdit

SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the edits: where (`line 7`, `edit e-12`), which field, and what."""

    where: str
    field: str
    message: str

    def __str__(self) -> str:
        """Read as `line 7: target: is empty`."""
        return printable(f"{self.where}: {self.field}: {self.message}")


@dataclass(frozen=True)
class EditBatch:
    """Edits learned together; the unit that is stored, reverted and merged.

    Raises:
        InvalidEdit: two edits share an id, repeat one another, or want different targets for the
            same prompt; every such pair is listed.
    """

    edits: tuple[Edit, ...]
    places: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        problems = list(_inconsistencies(self.edits, self._places()))
        if problems:
            raise invalid_edits(problems, n_edits=len(self.edits))

    def __len__(self) -> int:
        return len(self.edits)

    def __iter__(self) -> Iterator[Edit]:
        return iter(self.edits)

    @property
    def digest(self) -> str:
        """Name the batch by its edits, in whatever order they stand."""
        return json_digest(sorted(edit.digest for edit in self.edits))

    def subset(self, ids: Sequence[str]) -> "EditBatch":
        """Keep the edits with these ids, in the batch's own order."""
        wanted = set(ids)
        return EditBatch(tuple(edit for edit in self.edits if edit.id in wanted))

    def to_jsonl(self) -> bytes:
        """Write one canonical JSON object a line."""
        lines = (canonical_json(edit.written()) for edit in self)
        return b"".join(line + b"\n" for line in lines)

    def _places(self) -> Sequence[str]:
        return self.places or [f"edit {edit.id}" for edit in self.edits]


def invalid_edits(problems: Sequence[Problem], *, n_edits: int) -> InvalidEdit:
    """Make the error that names every problem."""
    shown = [str(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        shown.append(f"… and {len(problems) - SHOWN_PROBLEMS} more")
    count = f"{counted(len(problems), 'problem')} in {counted(n_edits, 'edit')}"
    message = "\n  ".join([f"{count}; none was taken", *shown])
    return InvalidEdit(message, problems=problems, hint="Mend these, then try again.")


def check_against(edits: Sequence[Edit], others: Sequence[Edit]) -> None:
    """Refuse edits that want something else for a wording that other edits answer or keep.

    An edit with the very prompt of another replaces it, which is no problem.

    Raises:
        InvalidEdit: one or more do; all of them are named.
    """
    replaced = {normal_text(edit.prompt) for edit in edits}
    left = [edit for edit in others if normal_text(edit.prompt) not in replaced]
    asked = {text: edit for edit in left for text in _texts(edit.prompt, *edit.also)}
    kept = {text: edit for edit in left for text in _texts(*edit.keep)}
    problems = [p for edit in edits for p in _against(edit, asked, kept)]
    if problems:
        raise invalid_edits(problems, n_edits=len(edits))


def _against(edit: Edit, asked: Mapping[str, Edit], kept: Mapping[str, Edit]) -> Iterator[Problem]:
    mine = (("prompt", (edit.prompt,)), ("also", edit.also))
    for field_name, texts in mine:
        for text in _texts(*texts):
            other = asked.get(text)
            if other is not None and other.label_digest != edit.label_digest:
                said = f"{text!r} is answered by {other.id} of this version with {other.target!r}"
                yield Problem(f"edit {edit.id}", field_name, f"{said}: revert that first")
            if text in kept:
                said = f"{text!r} must stay with the base model, as {kept[text].id} says"
                yield Problem(f"edit {edit.id}", field_name, f"{said}: revert that first")
    for text in _texts(*edit.keep):
        if text in asked:
            said = f"{text!r} is answered by {asked[text].id} of this version"
            yield Problem(f"edit {edit.id}", "keep", f"{said}: revert that first")


def _texts(*texts: str) -> list[str]:
    return sorted({normal_text(text) for text in texts})


def _inconsistencies(edits: Sequence[Edit], places: Sequence[str]) -> Iterator[Problem]:
    first_with_id: dict[str, str] = {}
    wanted: dict[str, list[tuple[str, str, Edit]]] = defaultdict(list)
    for edit, place in zip(edits, places, strict=True):
        if edit.id in first_with_id:
            yield Problem(place, "id", f"{edit.id!r} is already used by {first_with_id[edit.id]}")
        first_with_id.setdefault(edit.id, place)
        wanted[normal_text(edit.prompt)].append((place, "prompt", edit))
    for edit, place in zip(edits, places, strict=True):
        for field_name, texts in (("also", edit.also), ("rephrases", edit.rephrases)):
            for text in sorted({normal_text(text) for text in texts}):
                if text != normal_text(edit.prompt):
                    wanted[text].append((place, field_name, edit))
    for edit, place in zip(edits, places, strict=True):
        yield from _kept_and_asked(edit, place, wanted)
    for askers in wanted.values():
        yield from _clashes(askers)


def _kept_and_asked(
    edit: Edit, place: str, wanted: Mapping[str, Sequence[tuple[str, str, Edit]]]
) -> Iterator[Problem]:
    for text in sorted({normal_text(text) for text in edit.keep}):
        for asker, field_name, _ in wanted.get(text, [])[:1]:
            said = f"must stay with the base model, but is what {asker} asks ({field_name})"
            yield Problem(place, "keep", said)


def _clashes(askers: Sequence[tuple[str, str, Edit]]) -> Iterator[Problem]:
    first_place, first_field, first = askers[0]
    for place, field_name, edit in askers[1:]:
        if edit.label_digest != first.label_digest:
            yield Problem(
                place,
                field_name,
                f"contradicts {first_place}: the same prompt has target {first.target!r} there "
                f"and {edit.target!r} here",
            )
        elif first_field == field_name == "prompt":
            yield Problem(place, field_name, f"repeats {first_place}")
