"""Read the edits that a user names: files, or what a git revision added to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_edit.core.edit import EditKind
from mlflow_edit.core.edit_file import EditFile, Record, edits_from_records, read_records
from mlflow_edit.core.results import Provenance
from mlflow_edit.errors import InvalidEdit, InvalidInputError
from mlflow_edit.provenance import added_lines, provenance_of

MAX_FILE_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EditSource:
    """Raw records and where they came from."""

    records: tuple[Record, ...]
    provenance: Provenance | None

    def parse(self, kind: EditKind | None = None) -> EditFile:
        """Validate the records; edits that name no kind get this one.

        Raises:
            InvalidEdit: one or more are malformed, repeat or contradict one another.
        """
        return edits_from_records(self.records, kind=kind)


def read_source(paths: Sequence[Path], *, from_git: str | None = None) -> EditSource:
    """Read edits files.

    Args:
        paths: `.jsonl`, `.json`, `.csv` or `.yaml` files.
        from_git: a revision: only the lines that it added to the (one-edit-a-line) files.

    Raises:
        InvalidEdit: a file cannot be read.
        InvalidInputError: the revision cannot be.
    """
    records: list[Record] = []
    provenance: Provenance | None = None
    for path in paths:
        prefix = f"{path.name} " if len(paths) > 1 else ""
        if from_git is None:
            text, found = _text(path), provenance_of(path)
        else:
            text, found = _added(path, from_git)
        provenance = provenance or found
        records += read_records(text, format=path.suffix.lower().lstrip("."), prefix=prefix)
    return EditSource(tuple(records), provenance)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidEdit(f"{path} is larger than {MAX_FILE_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidEdit(
            f"{path} is not UTF-8: byte {error.object[error.start]:#04x} on line {line}"
        ) from error
    except OSError as error:
        raise InvalidEdit(
            f"{path} cannot be read: {error.strerror}", hint="Check the path of the edits file."
        ) from error


def _added(path: Path, revision: str) -> tuple[str, Provenance]:
    """Blank out the lines that the revision did not add, so that line numbers stay right."""
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise InvalidInputError("--from-git needs one edit a line: a .jsonl or .csv file")
    lines, provenance = added_lines(path, revision)
    kept = dict(lines)
    if not kept:
        raise InvalidEdit(f"revision {revision!r} added nothing to {path.name}")
    return "\n".join(kept.get(i, "") for i in range(1, max(kept) + 1)), provenance
