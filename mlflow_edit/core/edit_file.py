"""Read edit batches from JSONL, JSON, CSV and YAML text, naming every line that is wrong."""

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from mlflow_edit.core.edit import Edit, EditKind
from mlflow_edit.core.edit_batch import EditBatch, Problem, invalid_edits
from mlflow_edit.errors import InvalidEdit

FIELDS = tuple(Edit.model_fields)
LIST_FIELDS = ("rephrases", "locality", "portability")


@dataclass(frozen=True, slots=True)
class Record:
    """A raw record and where it stands; `problem` says why it could not even be read."""

    where: str
    value: Any = None
    problem: str | None = None


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


def read_records(text: str, *, format: str, prefix: str = "") -> Iterator[Record]:
    """Split the text of a file into raw records, each with its place."""
    readers: dict[str, Callable[[str], Iterator[Record]]] = {
        "jsonl": _jsonl,
        "json": _json,
        "csv": _csv,
        "yaml": _yaml,
        "yml": _yaml,
    }
    if format not in readers:
        raise InvalidEdit(
            f"edits come as .jsonl, .json, .csv or .yaml, not as .{format}",
            hint="Rename the file or convert it: one JSON object a line is the simplest.",
        )
    for record in readers[format](text.removeprefix("\ufeff")):
        yield Record(prefix + record.where, record.value, record.problem)


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
        close = difflib.get_close_matches(str(name), FIELDS, n=1, cutoff=0.75)
        if close:
            message = f"unknown field; did you mean {close[0]!r}?"
            problems.append(Problem(record.where, str(name), message))
        ignored.add(str(name))
        del value[name]
    if kind and "kind" not in value:
        value["kind"] = kind
    if value.get("kind") == "label" and isinstance(value.get("target"), int):
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


def _jsonl(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _parsed(f"line {number}", line.strip())


def _parsed(where: str, text: str) -> Record:
    try:
        return Record(where, json.loads(text, object_pairs_hook=_no_repeats))
    except json.JSONDecodeError as error:
        return Record(where, problem=f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Record(where, problem=f"not JSON: {error}")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return seen


def _json(text: str) -> Iterator[Record]:
    """Yield the items of a top-level array (or of its `edits` field), each with its line."""
    start = text.find("[")
    whole = _parsed("file", text)
    if whole.problem:
        yield whole
        return
    if isinstance(whole.value, dict) and isinstance(whole.value.get("edits"), list):
        yield from (Record(f"record {i}", v) for i, v in enumerate(whole.value["edits"], start=1))
        return
    if not isinstance(whole.value, list):
        yield Record("file", problem="expected an array of edits")
        return
    decoder, position = json.JSONDecoder(), start + 1
    for number, value in enumerate(whole.value, start=1):
        while text[position] in " \t\r\n,":
            position += 1
        line = text.count("\n", 0, position) + 1
        _, position = decoder.raw_decode(text, position)
        yield Record(f"record {number} (line {line})", value)


def _yaml(text: str) -> Iterator[Record]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        yield Record("file", problem=f"not YAML: {' '.join(str(error).split())}")
        return
    if value is None:
        return
    if isinstance(value, dict) and isinstance(value.get("edits"), list):
        yield from (Record(f"record {i}", v) for i, v in enumerate(value["edits"], start=1))
        return
    if not isinstance(value, list):
        yield Record("file", problem="expected a list of edits")
        return
    for node, item in zip(root.value, value, strict=True):
        yield Record(f"line {node.start_mark.line + 1}", item)


def _csv(text: str) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if header and "prompt" not in header:
            yield Record("line 1", problem=f"no column 'prompt' in the header {header}")
            return
        line = reader.line_num + 1
        for row in reader:
            if any(cell.strip() for cell in row):
                yield _csv_record(f"line {line}", header, row)
            line = reader.line_num + 1
    except csv.Error as error:
        yield Record(f"line {reader.line_num}", problem=f"not CSV: {error}")


def _csv_record(where: str, header: list[str], row: list[str]) -> Record:
    if len(row) != len(header):
        return Record(where, problem=f"{len(row)} cells, but the header has {len(header)}")
    value: dict[str, Any] = {n: c for n, c in zip(header, row, strict=True) if c.strip()}
    for name in LIST_FIELDS:
        cell = value.get(name)
        if cell is None:
            continue
        if cell.lstrip().startswith("["):
            parsed = _parsed(where, cell)
            if parsed.problem:
                return Record(where, problem=f"{name}: {parsed.problem}")
            value[name] = parsed.value
        else:
            value[name] = [part.strip() for part in cell.split("|") if part.strip()]
    return Record(where, value)
