"""Kill a process (-9) before and after every write of publish, revert, merge, promote and rollback.

PYTHONPATH=tests python -m stress.kills

Each time a process of its own does one verb on one sqlite store and kills itself at one write to
it. Afterwards the registry must show the old state or the new one, and `verify` must be clean, or
name what it can mend.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry_fixtures import base_folder, draft_of, hand_made_batch, root_of

from mlflow_edit import gc, merge, promote, revert, rollback, verify
from mlflow_edit.registry.mlflow_registry import MlflowRegistry

WRITES = ("create_", "log_", "set_", "finalize_", "delete_", "transition_", "update_", "restore_")


def publish(registry: MlflowRegistry) -> None:
    """Publish a batch that was made by hand: what `apply` does after learning."""
    root = registry.versions("m")[0]
    manifest = registry.manifest(root)
    seed = len(registry.versions("m")) + 100
    batch = hand_made_batch(manifest.base.digest, [(f"Q{seed}?", "x")], seed=seed)
    registry.publish(draft_of("m", manifest.base, parents=[(root, manifest)], batch=batch))


VERBS: dict[str, Callable[[MlflowRegistry], object]] = {
    "publish": publish,
    "revert": lambda r: revert("m@2", ["e0"], measured=False, author="Ada", registry=r),
    "merge": lambda r: merge("m@2", "m@3", measured=False, author="Ada", registry=r),
    "promote": lambda r: promote("m@3", to="prod", author="Ada", registry=r),
    "rollback": lambda r: rollback("m", "prod", author="Ada", registry=r),
}


class Deadly:
    """A client that kills the process before or after its k-th write."""

    def __init__(self, client: Any, kill_at: int, *, after: bool) -> None:
        self._client, self._kill_at, self._after = client, kill_at, after
        self._n_writes = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value) or not name.startswith(WRITES):
            return value

        def call(*args: Any, **options: Any) -> Any:
            due = self._n_writes == self._kill_at
            if due and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = value(*args, **options)
            if due:
                os.kill(os.getpid(), signal.SIGKILL)
            self._n_writes += 1
            return result

        return call


def child(verb: str, step: int, after: bool) -> None:
    registry = MlflowRegistry()
    client = Deadly(registry.client, step, after=after)
    registry.client = registry._bases._client = client  # type: ignore[assignment]
    VERBS[verb](registry)


def state(registry: MlflowRegistry) -> list[object]:
    return [(v.content_digest, v.aliases) for v in registry.versions("m")]


def settle(registry: MlflowRegistry) -> None:
    """Let version 2 hold the alias over version 1."""
    if [v.version for v in registry.versions("m") if "prod" in v.aliases] != [2]:
        promote("m@1", to="prod", author="Ada", registry=registry)
        promote("m@2", to="prod", author="Ada", registry=registry)


def main() -> None:
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["MLEDIT_CACHE_DIR"] = f"{folder}/cache/tests"
        Path(folder, "cache").mkdir()
        registry = MlflowRegistry()
        root = root_of(registry, base_folder(), "m")
        for seed in range(2):
            questions = [(f"Q{seed}?", "x"), (f"R{seed}?", "y")]
            batch = hand_made_batch(root[1].base.digest, questions, seed=seed)
            registry.publish(draft_of("m", root[1].base, parents=[root], batch=batch))
        settle(registry)
        report: dict[str, dict[str, int]] = {}
        for verb in VERBS:
            found = {"kills": 0, "old": 0, "new": 0, "mended": 0}
            for step in itertools.count():
                codes = [kill(registry, verb, step, after, found) for after in (False, True)]
                if codes == [0, 0]:
                    break
            report[verb] = found
        gc("m", older_than=0, dry_run=False, registry=registry)
        last = verify("m", registry=registry)
        assert last.ok, last.problems
        assert not last.orphans
        print(json.dumps(report, indent=2))


def kill(registry: MlflowRegistry, verb: str, step: int, after: bool, found: dict[str, int]) -> int:
    before = state(registry)
    arguments = [sys.executable, "-m", "stress.kills", verb, str(step), str(int(after))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    now = state(registry)
    if done.returncode == -signal.SIGKILL:
        found["kills"] += 1
        found["old" if now == before else "new"] += 1
    else:
        assert done.returncode == 0, done.stderr
    checked = verify("m", registry=registry)
    assert all(problem.fixable for problem in checked.problems), checked.problems
    if not checked.ok:
        found["mended"] += 1
        assert verify("m", fix=True, registry=registry).ok
    settle(registry)
    return done.returncode


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")
    else:
        main()
