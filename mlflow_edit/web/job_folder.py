"""Jobs as all processes of one server see them: a small file for each, in a folder of the cache.

They are for looking at only. What a job made is in MLflow; when the server ends they are of no use,
and the next one removes them.
"""

import json
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.web.failures import Failure

KEPT = 3600.0  # seconds that a finished job can be looked at
_ID = re.compile(r"[0-9a-f]{32}")


class Job(FrozenModel):
    """Work that somebody asked for, how far it is, and what came of it.

    `about` is what it was asked for with, `result` what the verb returned, as JSON. Times are
    seconds since 1970; `process` is the server's process that does it. `stopping` is said of one
    that runs and was cancelled.
    """

    id: str
    kind: str
    title: str
    name: str
    user: str
    about: dict[str, Any]
    process: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    stopping: bool = False
    submitted: float
    ended: float | None = None
    stage: str = ""
    done: int = 0
    total: int = 0
    result: dict[str, Any] | None = None
    failure: Failure | None = None

    @property
    def over(self) -> bool:
        """Tell whether nothing more will come of it."""
        return self.state in ("done", "failed", "cancelled")


class JobFolder:
    """The jobs of one server. Each of its processes is alive as long as it holds its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = secrets.token_hex(16)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._alive = FileLock(self._lock_of(self.process), thread_local=False)
        self._alive.acquire()

    def turn(self) -> FileLock:
        """Return the lock that one process of the server holds while it works on a job."""
        return FileLock(self.path / "turn.lock", thread_local=False)

    def write(self, job: Job) -> Job:
        """Store a job, in place of what was there."""
        place = self.path / f"{job.id}.json"
        beside = place.with_suffix(f".{self.process}")
        beside.write_bytes(job.model_dump_json().encode())
        os.replace(beside, place)
        return job

    def read(self, id: str) -> Job | None:
        """Read a job, None where there is none; one whose process ended has failed."""
        if not _ID.fullmatch(id):
            return None
        try:
            fields: Any = json.loads((self.path / f"{id}.json").read_bytes())
            job = Job.model_validate(fields)
        except (OSError, ValueError, ValidationError):
            return None
        job = self._as_wanted(job)
        if job.over or self._is_alive(job.process):
            return job
        return job.model_copy(
            update={
                "state": "failed",
                "failure": Failure(
                    status=503,
                    said="The server was restarted before this was done.",
                    hint="Look at the history before you try again: a version that was about to "
                    "be registered is either there whole, or not at all.",
                ),
            }
        )

    def jobs(self) -> list[Job]:
        """List all jobs; those that ended long ago are removed."""
        found = []
        for place in self.path.glob("*.json"):
            job = self.read(place.stem)
            if job is None or (job.over and time.time() - (job.ended or job.submitted) > KEPT):
                place.unlink(missing_ok=True)
                self._mark_of(place.stem).unlink(missing_ok=True)
            else:
                found.append(job)
        return found

    def cancel(self, id: str) -> None:
        """Write down that nobody wants a job any more."""
        self._mark_of(id).touch()

    def is_cancelled(self, id: str) -> bool:
        """Tell whether that was written down."""
        return self._mark_of(id).exists()

    def _as_wanted(self, job: Job) -> Job:
        """Show a job that was cancelled as dropped where it waits, as stopping where it runs."""
        if job.over or not self.is_cancelled(job.id):
            return job
        dropped = {"state": "cancelled"} if job.state == "waiting" else {"stopping": True}
        return job.model_copy(update=dropped)

    def _mark_of(self, id: str) -> Path:
        return self.path / f"{id}.cancelled"

    def _lock_of(self, process: str) -> Path:
        return self.path / f"{process}.alive"

    def _is_alive(self, process: str) -> bool:
        return process == self.process or is_held(self._lock_of(process))


def is_held(lock: Path) -> bool:
    """Tell whether a living process holds a lock."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, thread_local=False).acquire(timeout=0):
            return False
    except Timeout:
        return True


def remove_folders_of_ended_servers(parent: Path, own: Path) -> None:
    """Remove the folders in which no living process has jobs."""
    for path in parent.iterdir() if parent.is_dir() else ():
        with suppress(OSError):
            if path != own and not any(is_held(lock) for lock in path.glob("*.alive")):
                shutil.rmtree(path)
