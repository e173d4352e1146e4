"""Split the text of an edits file into raw records, each with the line on which it stands."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from mlflow_edit.core.plain_yaml import compose, plain
from mlflow_edit.errors import InvalidEdit

LIST_FIELDS = ("also", "keep", "rephrases", "locality", "portability")
MAX_DIGITS = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """A raw record and where it stands; `problem` says why it could not even be read."""

    where: str
    value: Any = None
    problem: str | None = None


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


def _jsonl(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield parsed(f"line {number}", line.strip())


def parsed(where: str, text: str) -> Record:
    """Read one JSON value strictly: no field twice, no number that JSON does not know."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_repeats,
            parse_int=_integer,
            parse_constant=_not_a_number,
        )
    except json.JSONDecodeError as error:
        return Record(where, problem=f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Record(where, problem=f"not JSON: {error}")
    return Record(where, value)


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _not_a_number(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return seen


def _json(text: str) -> Iterator[Record]:
    """Yield the items of a top-level array (or of its `edits` field), each with its line."""
    decoder = json.JSONDecoder(parse_int=str)  # finds where items end; `parsed` judges each
    try:
        items = decoder.decode(text)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        yield from _json_object(text)
        return
    position, line = text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    for number in range(1, len(items) + 1):
        start = position
        while text[position] in " \t\r\n,":
            position += 1
        line += text.count("\n", start, position)
        _, end = decoder.raw_decode(text, position)
        yield parsed(f"record {number} (line {line})", text[position:end])
        line += text.count("\n", position, end)
        position = end


def _json_object(text: str) -> Iterator[Record]:
    whole = parsed("file", text) if text.strip() else Record("file", [])
    if whole.problem:
        yield whole
    elif isinstance(whole.value, dict) and isinstance(whole.value.get("edits"), list):
        yield from (Record(f"record {i}", v) for i, v in enumerate(whole.value["edits"], start=1))
    elif whole.value != []:
        yield Record("file", problem="expected an array of edits")


def _yaml(text: str) -> Iterator[Record]:
    try:
        root = compose(text)
    except ValueError as error:
        yield Record("file", problem=str(error))
        return
    if isinstance(root, yaml.MappingNode):
        root = next((node for name, node in root.value if name.value == "edits"), root)
    if isinstance(root, yaml.SequenceNode):
        yield from map(_yaml_record, root.value)
    elif root is not None:
        yield Record("file", problem="expected a list of edits")


def _yaml_record(node: yaml.Node) -> Record:
    where = f"line {node.start_mark.line + 1}"
    try:
        return Record(where, plain(node))
    except ValueError as error:
        return Record(where, problem=str(error))


def _csv(text: str) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if header and "prompt" not in header:
            yield Record("line 1", problem=f"no column 'prompt' in the header {header}")
            return
        if len(set(header)) != len(header):
            yield Record("line 1", problem=f"a column occurs twice in the header {header}")
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
            found = parsed(where, cell)
            if found.problem:
                return Record(where, problem=f"{name}: {found.problem}")
            value[name] = found.value
        else:
            value[name] = [part.strip() for part in cell.split("|") if part.strip()]
    return Record(where, value)
