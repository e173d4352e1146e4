"""The queue: one job at a time, limits, and what is said of jobs whose process ended."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from registry_fixtures import new_name
from werkzeug.exceptions import Conflict, NotFound, ServiceUnavailable, TooManyRequests

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.errors import InvalidInputError
from mlflow_edit.operations.reporter import REGISTERING, Reporter
from mlflow_edit.registry import mlflow_insides
from mlflow_edit.web import jobs as module
from mlflow_edit.web.job_folder import Job, JobFolder, remove_folders_of_ended_servers
from mlflow_edit.web.jobs import MAX_EACH, MAX_WAITING, Jobs, n_models


class Answer(FrozenModel):
    """What the work of these tests returns."""

    text: str = "done"


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    """A queue of its own."""
    return Jobs(tmp_path / "server", n_models=1)


def submit(jobs: Jobs, work: Callable[[Reporter], Answer], **options: Any) -> Job:
    given: dict[str, Any] = {"name": "m", "user": "ada", "about": {"n": new_name()}, "limit": 60.0}
    return jobs.submit("ask", "Asking", work, **{**given, **options})


def result(jobs: Jobs, job: Job) -> Job:
    found = jobs.find(job.id, name=job.name, user=job.user, wait=30.0)
    assert found.over
    return found


def test_what_the_work_returns_and_how_far_it_is(jobs: Jobs) -> None:
    seen, go = threading.Event(), threading.Event()

    def work(reporter: Reporter) -> Answer:
        reporter.stage("measuring")
        seen.set()
        assert go.wait(30)
        return Answer()

    job = submit(jobs, work)
    assert seen.wait(30)
    running = jobs.find(job.id, name="m", user="ada")
    assert (running.state, running.stage, running.result) == ("running", "measuring", None)
    go.set()
    assert result(jobs, job).result == {"text": "done"}


def test_a_registry_store_knows_whose_job_it_is(jobs: Jobs) -> None:
    """Who registers a version by a job may not approve it, as by a request."""
    with Flask(__name__).test_request_context():
        g.mlflow_authenticated_user = "ada"
        mine = submit(jobs, lambda reporter: Answer(text=str(mlflow_insides.user())))
    nobodys = submit(jobs, lambda reporter: Answer(text=str(mlflow_insides.user())))
    assert result(jobs, mine).result == {"text": "ada"}
    assert result(jobs, nobodys).result == {"text": "None"}


@pytest.mark.parametrize("stranger", [{"user": "eve"}, {"name": "other"}, {"id": "0" * 32}])
@pytest.mark.parametrize("id", ["../jobs", "", "x" * 32])
def test_nobody_else_finds_a_job(jobs: Jobs, stranger: dict[str, str], id: str) -> None:
    job = submit(jobs, lambda reporter: Answer())
    mine = {"id": job.id, "name": "m", "user": "ada"}
    for wanted in ({**mine, **stranger}, {**mine, "id": id}):
        with pytest.raises(NotFound):
            jobs.find(wanted.pop("id"), **wanted)


def test_one_job_runs_at_a_time_also_of_two_processes(tmp_path: Path) -> None:
    running, most = 0, 0

    def work(reporter: Reporter) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.05)
        running -= 1
        return Answer()

    queues = [Jobs(tmp_path / "server", n_models=1) for _ in range(2)]
    made = [(queue, submit(queue, work)) for queue in queues for _ in range(2)]
    assert [result(queue, job).state for queue, job in made] == ["done"] * 4
    assert most == 1
    other_sees = queues[1].find(made[0][1].id, name="m", user="ada")
    assert other_sees.result == {"text": "done"}


def test_too_many_jobs_are_refused(jobs: Jobs) -> None:
    with jobs.paused():
        for _ in range(MAX_EACH):
            submit(jobs, lambda reporter: Answer())
        with pytest.raises(TooManyRequests) as each:
            submit(jobs, lambda reporter: Answer())
        for i in range(MAX_WAITING - MAX_EACH):
            submit(jobs, lambda reporter: Answer(), user=f"user {i}")
        with pytest.raises(ServiceUnavailable) as all_together:
            submit(jobs, lambda reporter: Answer(), user="one more")
    assert each.value.retry_after == all_together.value.retry_after == 10


def test_the_same_job_is_queued_once(jobs: Jobs) -> None:
    with jobs.paused():
        about = {"version": 2}
        one, two = (submit(jobs, lambda reporter: Answer(), about=about) for _ in range(2))
        assert one.id == two.id
    result(jobs, one)
    assert submit(jobs, lambda reporter: Answer(), about=about).id != one.id


def test_a_job_is_stopped_when_its_time_is_over(jobs: Jobs) -> None:
    def endless(reporter: Reporter) -> Answer:
        while True:
            time.sleep(0.01)
            reporter.progress(1, 2)

    failure = result(jobs, submit(jobs, endless, limit=0.05)).failure
    assert failure is not None
    assert failure.status == 504
    assert result(jobs, submit(jobs, lambda reporter: Answer())).state == "done"


def cancel(jobs: Jobs, job: Job) -> Job:
    jobs.cancel(job.id, name=job.name, user=job.user)
    return jobs.find(job.id, name=job.name, user=job.user)


def test_a_job_that_waits_is_dropped_when_it_is_cancelled(jobs: Jobs) -> None:
    about = {"version": 2}
    begun = threading.Event()

    def work(reporter: Reporter) -> Answer:
        begun.set()
        return Answer()

    with jobs.paused():
        job = submit(jobs, work, about=about)
        assert cancel(jobs, job).state == "cancelled"
        again = submit(jobs, lambda reporter: Answer(), about=about)
        assert again.id != job.id
    assert result(jobs, again).state == "done"
    assert result(jobs, job).state == "cancelled"
    assert not begun.is_set()
    with pytest.raises(Conflict):
        cancel(jobs, again)


def test_a_job_that_runs_is_stopped_when_it_next_says_how_far_it_is(jobs: Jobs) -> None:
    seen, go = threading.Event(), threading.Event()

    def work(reporter: Reporter) -> Answer:
        seen.set()
        assert go.wait(30)
        reporter.progress(1, 2)
        raise AssertionError

    job = submit(jobs, work)
    assert seen.wait(30)
    stopping = cancel(jobs, job)
    assert (stopping.state, stopping.stopping) == ("running", True)
    go.set()
    assert result(jobs, job).state == "cancelled"
    assert result(jobs, submit(jobs, lambda reporter: Answer())).state == "done"


def test_a_job_that_registers_is_stopped_no_more(jobs: Jobs) -> None:
    """Neither by its user nor by its time: what belongs to a version comes after it."""
    seen, go = threading.Event(), threading.Event()

    def work(reporter: Reporter) -> Answer:
        reporter.stage(REGISTERING)
        seen.set()
        assert go.wait(30)
        time.sleep(0.2)
        reporter.stage("asking for a review")
        return Answer()

    job = submit(jobs, work, limit=0.2)
    assert seen.wait(30)
    cancel(jobs, job)
    go.set()
    assert result(jobs, job).result == {"text": "done"}


def test_a_job_that_waited_too_long_is_not_begun(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    failure = result(jobs, submit(jobs, lambda reporter: Answer())).failure
    assert failure is not None
    assert failure.status == 503


@pytest.mark.parametrize(
    ("error", "status"),
    [(InvalidInputError("no"), 400), (ZeroDivisionError("secret"), 500), (MemoryError(), 503)],
)
def test_an_error_is_told_and_the_queue_goes_on(jobs: Jobs, error: Exception, status: int) -> None:
    def work(reporter: Reporter) -> Answer:
        raise error

    failure = result(jobs, submit(jobs, work)).failure
    assert failure is not None
    assert failure.status == status
    assert "secret" not in failure.said
    assert result(jobs, submit(jobs, lambda reporter: Answer())).state == "done"


def test_jobs_of_a_process_that_was_killed_have_failed(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from mlflow_edit.web.job_folder import Job, JobFolder\n"
        "folder = JobFolder(pathlib.Path(sys.argv[1]))\n"
        "folder.write(Job(id='a' * 32, kind='ask', title='', name='m', user='ada', about={},"
        " process=folder.process, submitted=time.time(), state='running'))\n"
        "print('written', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "server")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    folder = JobFolder(tmp_path / "server")
    running = folder.read("a" * 32)
    assert running is not None
    assert running.state == "running"
    process.kill()
    process.wait()
    ended = folder.read("a" * 32)
    assert ended is not None
    assert ended.failure is not None
    assert "restarted" in ended.failure.said


def test_what_ended_servers_left_is_removed(tmp_path: Path) -> None:
    own, other = JobFolder(tmp_path / "own"), JobFolder(tmp_path / "other")
    (tmp_path / "ended").mkdir()
    (tmp_path / "ended" / "a.json").write_text("{}")
    remove_folders_of_ended_servers(tmp_path, own.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "own"]
    assert other.jobs() == []


def test_jobs_that_ended_long_ago_and_damaged_ones_are_forgotten(jobs: Jobs) -> None:
    job = result(jobs, submit(jobs, lambda reporter: Answer()))
    folder = jobs._begun()
    folder.write(job.model_copy(update={"ended": time.time() - 4000}))
    (folder.path / f"{'b' * 32}.json").write_text('{"id": 1}')
    assert jobs.listed() == []
    assert list(folder.path.glob("*.json")) == []


@pytest.mark.parametrize(("text", "number"), [("", 1), ("0", 0), (" 2 ", 2)])
def test_the_number_of_models_is_set_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, number: int
) -> None:
    monkeypatch.setenv("MLEDIT_UI_MODELS", text)
    assert n_models() == number


@pytest.mark.parametrize("text", ["-1", "many", "17", "²"])
def test_a_number_of_models_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MLEDIT_UI_MODELS", text)
    with pytest.raises(InvalidInputError, match="MLEDIT_UI_MODELS"):
        n_models()
