"""Text of others inside the Markdown that MLflow's pages show."""

from mlflow_edit.core.text import printable

_MARKUP = frozenset("\\`*_{}[]()#|!~")
PROSE = frozenset("\\`*_[]~")  # what is markup within a line that is no row of a table
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def plain(text: str, width: int, markup: frozenset[str] = _MARKUP) -> str:
    """Make text safe in a Markdown table: one line, no markup, at most `width` signs written."""
    pieces: list[str] = []
    room = width
    for mark in printable(" ".join(text.split())):
        piece = _ENTITIES.get(mark) or (f"\\{mark}" if mark in markup else mark)
        room -= len(piece)
        if room < 0:
            return "".join(pieces[:-1]) + "…"
        pieces.append(piece)
    return "".join(pieces)
