"""What the benchmarks share: repeats, medians, and on what machine."""

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mlflow_edit.core.edit_batch import EditBatch, Problem
from mlflow_edit.core.edit_file import parse_edits
from mlflow_edit.errors import InvalidEdit
from mlflow_edit.models.base_model import BaseModel, load_base
from mlflow_edit.models.cache import cache_folder
from mlflow_edit.models.smollm2 import smollm2_folder


def machine() -> str:
    """Say where a figure was measured."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), name
        )
    threads = torch.get_num_threads()
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, {threads} threads"


def timed(run: Callable[[], Any]) -> float:
    """Return how many seconds a call takes; what earlier ones left behind is collected before."""
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def paired(
    a: Callable[[], Any], b: Callable[[], Any], *, repeats: int
) -> tuple[float, float, float]:
    """Time two calls in turn; return both medians and the median of the ratios b / a."""
    a(), b()  # warm up
    times = []
    for i in range(repeats):
        first, second = (a, b) if i % 2 == 0 else (b, a)
        x, y = timed(first), timed(second)
        times.append((x, y) if i % 2 == 0 else (y, x))
    medians = [statistics.median(t) for t in zip(*times, strict=True)]
    return medians[0], medians[1], statistics.median(y / x for x, y in times)


def arguments(description: str, **defaults: Any) -> argparse.Namespace:
    """Parse a benchmark's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--base", help="model folder; SmolLM2 from PyPI unless given")
    for name, value in defaults.items():
        kind = str if value is None else type(value)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value)
    return parser.parse_args()


def base_folder(given: str | None) -> Path:
    """Return the base model's folder."""
    return Path(given) if given else smollm2_folder(cache_folder(), print)


def base_model(given: str | None) -> BaseModel:
    """Load the base model."""
    return load_base(base_folder(given))


def consistent_edits(path: str, n_edits: int) -> EditBatch:
    """Read the first edits of a data file that do not repeat or contradict one another."""
    lines = [line for line in Path(path).read_text().split("\n") if line.strip()][: 2 * n_edits]
    while True:
        try:
            return EditBatch(parse_edits("\n".join(lines), format="jsonl").batch.edits[:n_edits])
        except InvalidEdit as error:
            bad = {int(p.where.split()[1]) for p in error.problems if isinstance(p, Problem)}
            lines = [line for i, line in enumerate(lines, start=1) if i not in bad]


def write_edits(batch: Sequence[Any], path: Path) -> Path:
    """Write edits to a file."""
    path.write_text("".join(e.model_dump_json(exclude_defaults=True) + "\n" for e in batch))
    return path


def report(**figures: Any) -> None:
    """Print figures as JSON, with the machine."""
    print(json.dumps({**figures, "machine": machine()}, indent=2))
