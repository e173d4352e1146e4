"""Time `mledit --help`, and `mledit log` of many versions on sqlite.

python tests/benchmarks/cli_speed.py --n-versions 200
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import arguments, report, timed

from mlflow_edit.core.manifest import BaseRef, Manifest
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.registry import Draft

MLEDIT = str(Path(sys.executable).parent / "mledit")


def many_versions(name: str, n_versions: int) -> None:
    """Publish a line of versions without batches."""
    registry = MlflowRegistry()
    registry.create_model(name)
    base = BaseRef(digest="0" * 64, uri="models:/m-0", source="none")
    card = Scorecard(reliability=1.0, locality=0.5)
    parents: tuple[str, ...] = ()
    for i in range(n_versions):
        manifest = Manifest(
            base=base,
            parents=parents,
            author="benchmark",
            created_at="2026-01-01T00:00:00Z",
            message=f"version {i}",
            scorecard=card.digest,
        )
        draft = Draft(
            name=name, verb="apply", manifest=lambda _, m=manifest: m, base=base, scorecard=card
        )
        parents = (registry.publish(draft).digest,)


def median_of(command: list[str], repeats: int) -> float:
    """Return the median time of a command."""
    return statistics.median(
        timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        for _ in range(repeats)
    )


def main() -> None:
    args = arguments(__doc__, n_versions=200, repeats=7)
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
        many_versions("many", args.n_versions)
        report(
            n_versions=args.n_versions,
            seconds_help=median_of([MLEDIT, "--help"], args.repeats),
            seconds_log=median_of([MLEDIT, "log", "many"], args.repeats),
            seconds_import_mlflow=median_of([sys.executable, "-c", "import mlflow"], args.repeats),
        )


if __name__ == "__main__":
    main()
