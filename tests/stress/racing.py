"""What the stress scripts share: real stores, and processes that begin at the same moment."""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from registry_fixtures import draft_of
from servers import shared_stores, start_server

from mlflow_edit.core.manifest import BaseRef
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.registry import VersionInfo

BASE = BaseRef(digest="0" * 64, uri="https://example.org/base", source="none")
TIME_LIMIT = 1500.0


def arguments(description: str, **defaults: int) -> argparse.Namespace:
    """Parse a script's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--through",
        choices=("server", "database", "environment"),
        default="server",
        help="a tracking server over PostgreSQL, that database itself (both are started), or "
        "whatever MLFLOW_TRACKING_URI names; artifacts are in S3",
    )
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


@contextmanager
def opened(through: str) -> Iterator[None]:
    """Set the environment so that a registry opens in real stores, for the length of a context."""
    with tempfile.TemporaryDirectory(prefix="mledit-stress-") as temporary:
        folder = Path(temporary)
        os.environ["MLEDIT_CACHE_DIR"] = str(folder / "cache")
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        server = None
        if through != "environment":
            stores = shared_stores()
            os.environ.update(stores.environment)
            os.environ["MLFLOW_TRACKING_URI"] = stores.database
            if through == "server":
                options = ["--workers", "2"]
                server = start_server(folder / "server", stores=stores.options, options=options)
                os.environ["MLFLOW_TRACKING_URI"] = server.uri
        try:
            yield
        finally:
            if server is not None:
                server.kill()


def race(processes: int, work: Callable[[MlflowRegistry, int], list[Any]]) -> list[list[Any]]:
    """Call `work` in processes that begin at once, each with a registry of its own.

    The parent must not have opened a store before: the processes are forks of it.

    Raises:
        RuntimeError: one of them raised.
    """
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(processes), context.Queue()

    def run(i: int) -> None:
        try:
            registry = MlflowRegistry()
            start.wait()
            results.put((i, work(registry, i), ""))
        except BaseException:  # noqa: BLE001 — it is raised again, in the parent
            start.abort()
            results.put((i, [], traceback.format_exc()))

    children = [context.Process(target=run, args=(i,)) for i in range(processes)]
    for child in children:
        child.start()
    try:
        found = [results.get(timeout=TIME_LIMIT) for _ in children]
    finally:
        for child in children:
            child.join(10)
            child.kill()
    failed = [said for _, _, said in found if said]
    if failed:
        raise RuntimeError(f"{len(failed)} of {processes} processes failed\n" + "\n".join(failed))
    return [done for _, done, _ in sorted(found, key=lambda one: one[0])]


def alone(work: Callable[[MlflowRegistry], list[Any]]) -> list[Any]:
    """Call `work` in a process of its own."""
    return race(1, lambda registry, _: work(registry))[0]


def root(registry: MlflowRegistry, name: str) -> VersionInfo:
    """Publish a first version."""
    registry.create_model(name)
    return registry.publish(draft_of(name, BASE))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call gives, and how many seconds it takes."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the maximum."""
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered), 3),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 3),
        "max": round(ordered[-1], 3),
    }


def report(**figures: Any) -> None:
    """Print figures as JSON."""
    print(json.dumps(figures, indent=2))
