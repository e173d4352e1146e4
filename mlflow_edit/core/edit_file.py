"""Read edit batches from JSONL, JSON, CSV and YAML text, naming every line that is wrong."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from mlflow_edit.core.edit import Edit, EditKind
from mlflow_edit.core.edit_batch import EditBatch, Problem, invalid_edits
from mlflow_edit.core.edit_records import Record, read_records
from mlflow_edit.core.text import printable
from mlflow_edit.errors import InvalidEdit

__all__ = ["EditFile", "Record", "edits_from_records", "parse_edits", "read_records"]

FIELDS = tuple(Edit.model_fields)


@dataclass(frozen=True, slots=True)
class EditFile:
    """What was read: the batch, and the names of columns that mean nothing to us."""

    batch: EditBatch
    ignored_fields: tuple[str, ...] = ()


def parse_edits(text: str, *, format: str, kind: EditKind | None = None) -> EditFile:
    """Parse the text of one edits file.

    Args:
        text: the file's content.
        format: `jsonl`, `json`, `csv`, `yaml` or `yml`.
        kind: the kind of edits that do not name one.

    Raises:
        InvalidEdit: one or more records are malformed, repeat or contradict one another; the
            error lists all of them by line and field.
    """
    return edits_from_records(list(read_records(text, format=format)), kind=kind)


def edits_from_records(records: Sequence[Record], *, kind: EditKind | None = None) -> EditFile:
    """Validate raw records into one batch, collecting every problem before raising.

    Raises:
        InvalidEdit: as `parse_edits`.
    """
    if not records:
        raise InvalidEdit("no edits: the file is empty", hint="Write one edit a line.")
    edits: list[Edit] = []
    places: list[str] = []
    problems: list[Problem] = []
    ignored: set[str] = set()
    for record in records:
        try:
            edits.append(_edit(record, kind, ignored))
            places.append(record.where)
        except _Refused as refused:
            problems.extend(refused.problems)
    try:
        batch = EditBatch(tuple(edits), tuple(places))
    except InvalidEdit as error:
        problems.extend(p for p in error.problems if isinstance(p, Problem))
    if problems:
        raise invalid_edits(problems, n_edits=len(records))
    return EditFile(batch, tuple(sorted(ignored)))


class _Refused(Exception):
    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems


def _edit(record: Record, kind: EditKind | None, ignored: set[str]) -> Edit:
    if record.problem is not None:
        raise _Refused([Problem(record.where, "record", record.problem)])
    if not isinstance(record.value, dict):
        found = type(record.value).__name__
        raise _Refused([Problem(record.where, "record", f"expected an object, found {found}")])
    value = {name: item for name, item in record.value.items() if item is not None}
    problems = []
    for name in [name for name in value if name not in FIELDS]:
        close = difflib.get_close_matches(name.lower(), FIELDS, n=1, cutoff=0.75)
        if close:
            message = f"unknown field; did you mean {close[0]!r}?"
            problems.append(Problem(record.where, name, message))
        ignored.add(printable(name))
        del value[name]
    if kind and "kind" not in value:
        value["kind"] = kind
    if value.get("kind") == "label" and type(value.get("target")) is int:
        value["target"] = str(value["target"])
    try:
        edit = Edit.model_validate(value)
    except ValidationError as error:
        problems += [
            Problem(record.where, ".".join(map(str, e["loc"])) or "record", _said(e["msg"]))
            for e in error.errors()
        ]
    if problems:
        raise _Refused(problems)
    return edit


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")
