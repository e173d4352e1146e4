"""Work that takes longer than a page may: a queue, one thread that works it off, and limits."""

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.exceptions import (
    Conflict,
    GatewayTimeout,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
)

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.errors import ConflictError, InvalidInputError, NotFoundError
from mlflow_edit.models.cache import cache_folder
from mlflow_edit.operations.reporter import REGISTERING, Reporter
from mlflow_edit.registry import mlflow_insides
from mlflow_edit.registry.kept_bases import KeptBases, keeping_bases
from mlflow_edit.web.failures import failure_of
from mlflow_edit.web.job_folder import Job, JobFolder, remove_folders_of_ended_servers

MODELS = "MLEDIT_UI_MODELS"
MAX_WAITING, MAX_EACH = 16, 4  # jobs not done yet: of a server, and of one user
AGAIN = 10  # seconds after which a browser may ask again
PATIENCE = 600.0  # seconds that a job may wait for its turn
_STEP = 0.2  # seconds between two looks at a job, or two writings of how far it is

Work = Callable[[Reporter], FrozenModel]


class Cancelled(Exception):
    """Whoever asked for a job wants it no more."""


class Jobs:
    """The queue of one process of the server.

    A process works on one job at a time, in a thread of its own, and all processes of one server
    take turns: a base model is used by one version at a time, and the pages stay quick.
    """

    def __init__(self, path: Path, *, n_models: int) -> None:
        self.n_models = n_models
        self._path = path
        self._folder: JobFolder | None = None
        self._bases = KeptBases(n_models)
        self._queue: queue.Queue[tuple[Job, Work, float, str | None]] = queue.Queue()
        self._lock = threading.Lock()

    def submit(
        self,
        kind: str,
        title: str,
        work: Work,
        *,
        name: str,
        user: str,
        about: Mapping[str, Any],
        limit: float,
    ) -> Job:
        """Queue a job; the same job of the same user that is not done yet is not queued twice.

        Args:
            kind: says how its result is shown.
            title: what is being done.
            work: does it, telling a reporter how far it is.
            name: the model.
            user: who asks.
            about: what is asked for, as JSON values.
            limit: seconds after which it is stopped when it next says how far it is.

        Raises:
            TooManyRequests: this user has too many jobs that are not done.
            ServiceUnavailable: all users together have.
        """
        with self._lock:
            folder = self._begun()
            open_ones = [job for job in folder.jobs() if not job.over]
            asked = (kind, name, user, dict(about))
            for job in open_ones:
                if (job.kind, job.name, job.user, job.about) == asked and not job.stopping:
                    return job
            if len(open_ones) >= MAX_WAITING:
                raise ServiceUnavailable("Too much is waiting to be done here.", retry_after=AGAIN)
            if sum(job.user == user for job in open_ones) >= MAX_EACH:
                raise TooManyRequests(
                    f"{MAX_EACH} things that you asked for are not done yet.", retry_after=AGAIN
                )
            job = folder.write(
                Job(
                    id=secrets.token_hex(16),
                    kind=kind,
                    title=title,
                    name=name,
                    user=user,
                    about=dict(about),
                    process=folder.process,
                    submitted=time.time(),
                )
            )
        self._queue.put((job, work, limit, mlflow_insides.user()))
        return job

    def find(self, id: str, *, name: str, user: str, wait: float = 0.0) -> Job:
        """Return a job of a user, when it is over or after so many seconds.

        Raises:
            NotFound: this user has no such job.
        """
        with self._lock:
            folder = self._begun()
        limit = time.monotonic() + wait
        while True:
            job = folder.read(id)
            if job is None or (job.name, job.user) != (name, user):
                raise NotFound(
                    "This server knows no such job of yours: it was restarted since, or the job "
                    "was done more than an hour ago. The history says what was registered."
                )
            if job.over or time.monotonic() > limit:
                return job
            time.sleep(_STEP)

    def cancel(self, id: str, *, name: str, user: str) -> None:
        """Drop a job of a user that waits, or stop one that runs when it next says how far it is.

        Raises:
            NotFound: this user has no such job.
            Conflict: it is over.
        """
        if self.find(id, name=name, user=user).over:
            raise Conflict("This is over already; its page says what came of it.")
        with self._lock:
            self._begun().cancel(id)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Begin no job, in any process of the server, for the length of a context."""
        with self._lock:
            turn = self._begun().turn()
        with turn:
            yield

    def listed(self) -> list[Job]:
        """List the jobs of the server, over or not."""
        with self._lock:
            return self._begun().jobs()

    def _begun(self) -> JobFolder:
        """Make the folder and the thread with the first job: not before a server has forked."""
        if self._folder is None:
            remove_folders_of_ended_servers(self._path.parent, self._path)
            self._folder = JobFolder(self._path)
            threading.Thread(target=self._work_off, name="mledit jobs", daemon=True).start()
        return self._folder

    def _work_off(self) -> None:
        folder = self._folder
        assert folder is not None
        turn = folder.turn()
        while True:
            job, work, limit, who = self._queue.get()
            with turn, mlflow_insides.acting_for(who):
                self._do(folder, job, work, limit)

    def _do(self, folder: JobFolder, job: Job, work: Work, limit: float) -> None:
        now = time.time()
        progress = Progress(folder, job, limit)
        try:
            progress.begin()
            if now - job.submitted > PATIENCE:
                raise ServiceUnavailable("This waited too long for its turn; nothing was done.")
            with keeping_bases(self._bases):
                result = work(progress).model_dump(mode="json")
        except Cancelled:
            self._bases.clear()  # a model may be left half edited
            progress.write(state="cancelled", ended=time.time())
        except Exception as error:  # noqa: BLE001  whatever it is, it is told and the queue goes on
            if not isinstance(error, InvalidInputError | ConflictError | NotFoundError):
                self._bases.clear()
            progress.write(state="failed", ended=time.time(), failure=failure_of(error))
        else:
            progress.write(state="done", ended=time.time(), result=result)


class Progress:
    """Writes down how far a job is, and stops it when its time is over or nobody wants it.

    It is not stopped any more once a version is being registered: that is left whole or not at all,
    and so is what belongs to it.
    """

    def __init__(self, folder: JobFolder, job: Job, limit: float) -> None:
        self._folder, self._job = folder, job
        self._limit, self._end = limit, time.monotonic() + limit
        self._written = 0.0
        self._registering = False

    def begin(self) -> None:
        """Say that the job runs, unless it was dropped.

        Whoever cancels looks at the state after the mark, and this at the mark after the state: a
        job that was seen to be dropped does nothing.
        """
        self._check()
        self.write(state="running")
        self._check()

    def stage(self, text: str) -> None:
        """Say what begins now."""
        self._check()
        self._registering = self._registering or text == REGISTERING
        self.write(stage=text, done=0, total=0)

    def progress(self, done: int, total: int, detail: str = "") -> None:
        """Say how much of the stage is done."""
        self._check()
        if time.monotonic() - self._written > _STEP:
            self.write(done=done, total=total)

    def warn(self, text: str) -> None:
        """Leave it to the result, which has all warnings."""

    def write(self, **fields: Any) -> None:
        """Store the job with these fields changed."""
        self._written = time.monotonic()
        self._job = self._folder.write(self._job.model_copy(update=fields))

    def _check(self) -> None:
        if self._registering:
            return
        if self._folder.is_cancelled(self._job.id):
            raise Cancelled
        if time.monotonic() > self._end:
            raise GatewayTimeout(f"This was stopped after {self._limit:.0f} seconds.")


def jobs_folder() -> Path:
    """Return where the jobs of this server are: its processes have one parent."""
    return cache_folder() / "jobs" / str(os.getppid())


def n_models() -> int:
    """Return how many base models may stay in the memory of a process: `MLEDIT_UI_MODELS`, 1.

    Raises:
        InvalidInputError: that is no number from 0 to 16.
    """
    text = os.environ.get(MODELS, "").strip() or "1"
    if not text.isascii() or not text.isdigit() or int(text) > 16:
        raise InvalidInputError(
            f"{MODELS} is {text!r}", hint="Set it to how many models to keep: 0 loads none."
        )
    return int(text)
