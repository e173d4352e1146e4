"""How versions descend from one another: a directed acyclic graph of digests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple


class Lineage:
    """The parents of every version, by digest.

    Args:
        parents: for each version its parents; a parent that is not a key is unknown, and ends the
            line. The order is that of registration, oldest first.
    """

    def __init__(self, parents: Mapping[str, Sequence[str]]) -> None:
        self._parents = {digest: tuple(found) for digest, found in parents.items()}
        self._place = {digest: i for i, digest in enumerate(self._parents)}

    def ancestors(self, digest: str) -> frozenset[str]:
        """Return the version and all that it descends from."""
        seen: set[str] = set()
        waiting = [digest]
        while waiting:
            one = waiting.pop()
            if one in self._parents and one not in seen:
                seen.add(one)
                waiting.extend(self._parents[one])
        return frozenset(seen)

    def contains(self, descendant: str, ancestor: str) -> bool:
        """Tell whether a version is another, or descends from it."""
        return ancestor in self.ancestors(descendant)

    def between(self, old: str, new: str) -> list[str]:
        """Return `old..new`: what `new` descends from and `old` does not, oldest first."""
        return self.in_order(self.ancestors(new) - self.ancestors(old))

    def merge_bases(self, ours: str, theirs: str) -> list[str]:
        """Return the common ancestors that are not ancestors of another one, oldest first.

        After criss-cross merges there are several; without common history, none.
        """
        common = self.ancestors(ours) & self.ancestors(theirs)
        older: set[str] = set()
        for digest in common:
            for parent in self._parents[digest]:
                older |= self.ancestors(parent)
        return self.in_order(common - older)

    def in_order(self, digests: frozenset[str] | set[str]) -> list[str]:
        """Put versions in the order of registration, parents before children."""
        return sorted(digests, key=self._place.__getitem__)

    def unknown_parents(self) -> list[tuple[str, str]]:
        """Return (version, parent) for every parent that is not there."""
        return [
            (digest, parent)
            for digest, found in self._parents.items()
            for parent in found
            if parent not in self._parents
        ]


class Row(NamedTuple):
    """One version in a drawing of history: its column, and the lines around it.

    Args:
        digest: the version.
        column: where it stands.
        n_above: how many lanes come from the row above, in the first columns.
        lines: to the row below, each from a column of this row to a column of that.
    """

    digest: str
    column: int
    n_above: int
    lines: tuple[tuple[int, int], ...]


def rows(parents: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Lay out versions in lanes, newest first. Every lane waits for one version.

    Args:
        parents: for each version its parents; no version stands below its parent.
    """
    lanes: list[str] = []
    for digest, found in parents.items():
        n_above = len(lanes)
        if digest not in lanes:
            lanes.append(digest)
        column = lanes.index(digest)
        kept: dict[str, int] = {}
        lines = tuple(
            (i, kept.setdefault(target, len(kept)))
            for i, waited in enumerate(lanes)
            for target in ([p for p in found if p in parents] if i == column else [waited])
        )
        yield Row(digest, column, n_above, lines)
        lanes = list(kept)


def graph(parents: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str | None]]:
    """Draw versions as git does: yield (drawing, digest), newest first.

    Rows with None as digest hold only the lines that join lanes where versions forked, or part
    them where versions were merged.

    Args:
        parents: as of `rows`.
    """
    for row in rows(parents):
        n_lanes = max(row.n_above, row.column + 1)
        yield " ".join("*" if i == row.column else "|" for i in range(n_lanes)), row.digest
        if any(start != end for start, end in row.lines):
            yield _drawn(row.lines), None


def _drawn(lines: Sequence[tuple[int, int]]) -> str:
    """Draw lines from columns of one row to columns of the next; two signs are one column."""
    marks: dict[int, str] = {}
    for start, end in sorted(lines, key=lambda line: line[0] == line[1]):  # straight ones on top
        if start == end:
            marks[2 * start] = "|"
            continue
        left, right = min(start, end), max(start, end)
        marks.update(dict.fromkeys(range(2 * left + 1, 2 * right - 1), "_"))
        marks[2 * right - 1 if end < start else 2 * left + 1] = "/" if end < start else "\\"
    return "".join(marks.get(i, " ") for i in range(max(marks) + 1))
