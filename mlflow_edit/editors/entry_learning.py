"""Learn the values of entries, of codebooks and of memories, in passes over whole batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from mlflow_edit.core.edit import Edit
from mlflow_edit.editors.contexts import Asking
from mlflow_edit.editors.editor import Outcome, Progress
from mlflow_edit.editors.value_learning import Learned, Search, learn_values
from mlflow_edit.models.architecture import Site
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.upper_blocks import Example, Learnable, prepare

MAX_ROWS, MAX_TOKENS = 64, 4096  # of one pass: bounds memory whatever the size of the batch
SECOND_TRY = 0.3  # of the learning rate, for edits that the first try left unsolved


@dataclass(frozen=True, slots=True)
class Job:
    """One edit to be learned, in its contexts: the number it has in its batch, and its span."""

    index: int
    edit: Edit
    asked: tuple[Asking, ...]
    span: int

    @property
    def length(self) -> int:
        """The most tokens of a context and its answer."""
        return max(len(one.prompt) + len(one.answer) for one in self.asked)


class LearnedEntry(NamedTuple):
    """What was learned for one edit: its key `(d_key,)` and key token, and how learning went."""

    edit: Edit
    key: Tensor
    token: int
    learned: Learned

    @property
    def solved(self) -> bool:
        """Whether the value gives the answer."""
        return bool(self.learned.solved)

    @property
    def outcome(self) -> Outcome:
        """How learning went, as it is told."""
        learned = self.learned
        return Outcome(self.edit.id, self.solved, float(learned.losses), int(learned.steps))


def learn_entries(
    base: BaseModel, site: Site, jobs: Sequence[Job], search: Search, progress: Progress
) -> list[LearnedEntry]:
    """Learn the values of all jobs; what was learned comes in the order of their numbers.

    Raises:
        UnsupportedModel: as `upper_blocks.prepare`.
    """
    found: dict[int, LearnedEntry] = {}
    for chunk in chunks(jobs):
        before = sum(one.solved for one in found.values())

        def on_step(solved: int, loss: float, before: int = before) -> None:
            progress(before + solved, len(jobs), loss)

        prepared = prepare(base, site, examples(chunk), span=chunk[0].span)
        result = with_second_try(prepared, search, on_step)
        for owner, job in enumerate(chunk):
            alone = int((prepared.owners == owner).nonzero()[0, 0])
            found[job.index] = LearnedEntry(
                job.edit,
                prepared.keys[alone].float().cpu(),
                int(prepared.key_tokens[alone]),
                Learned(*(part[owner].cpu() for part in result.parts())),
            )
    return [found[index] for index in sorted(found)]


def examples(chunk: Sequence[Job]) -> list[Example]:
    """List what is to be learned of a chunk: its jobs are the owners."""
    return [
        Example(one.prompt, one.answer, owner)
        for owner, job in enumerate(chunk)
        for one in job.asked
    ]


def chunks(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group edits of one span and like length, so that little is padded and memory is bounded."""
    order = sorted(jobs, key=lambda job: (job.span, len(job.asked[0].answer), job.length))
    grouped: list[list[Job]] = []
    longest = rows = 0
    for job in order:
        longest, rows = max(longest, job.length), rows + len(job.asked)
        full = rows > MAX_ROWS or longest * rows > MAX_TOKENS
        if not grouped or full or grouped[-1][0].span != job.span:
            grouped.append([])
            longest, rows = job.length, len(job.asked)
        grouped[-1].append(job)
    return grouped


def with_second_try(
    prepared: Learnable, search: Search, on_step: Callable[[int, float], None]
) -> Learned:
    """Learn all values; those left unsolved once more, from the start and more slowly.

    What cannot be had in all contexts is learned behind the prompt alone.
    """
    found = learn_values(prepared, search, on_step=on_step)
    slower = replace(search, learning_rate=search.learning_rate * SECOND_TRY)
    tries = [prepared]
    if len(prepared.owners) > len(found.solved):
        tries.append(prepared.alone())
    for some in tries:
        left = (~found.solved).nonzero()[:, 0]
        if not len(left):
            break
        done = int(found.solved.sum())

        def told(solved: int, loss: float, done: int = done) -> None:
            on_step(done + solved, loss)

        again = learn_values(some.select(left), slower, on_step=told)
        for mine, theirs in zip(found.parts(), again.parts(), strict=True):
            mine[left] = theirs
    return found
