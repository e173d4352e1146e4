"""Say on standard error what an operation is doing: a bar on a terminal, lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mlflow_edit.operations.reporter import Reporter, Silent


@contextmanager
def reporting(*, quiet: bool) -> Iterator[Reporter]:
    """Give a reporter for the length of a verb."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        with _bars() as progress:
            yield _Bars(progress)
    else:
        yield _Lines()


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, text: str) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(text, total=None, detail="")

    def progress(self, done: int, total: int, detail: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, detail=detail)

    def warn(self, text: str) -> None:
        self._progress.console.print(f"Warning: {text}", markup=False, highlight=False)


class _Lines:
    def __init__(self) -> None:
        self._last = ""

    def stage(self, text: str) -> None:
        key = text.partition(":")[0]
        if key != self._last:
            sys.stderr.write(f"{text}\n")
        self._last = key

    def progress(self, done: int, total: int, detail: str = "") -> None:
        return None

    def warn(self, text: str) -> None:
        sys.stderr.write(f"Warning: {text}\n")
