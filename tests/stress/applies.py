"""Processes that publish to one model at once: no version is lost, and none fails.

Each reads the head, publishes a child of it, and begins again.

PYTHONPATH=tests python -m stress.applies --processes 8 --publishes 20
"""

import secrets
from typing import Any

from registry_fixtures import draft_of, hand_made_batch

from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.names import parse_ref
from mlflow_edit.registry.registry import heads
from stress.racing import BASE, alone, arguments, opened, race, report, root, spread, timed


def publish_often(
    registry: MlflowRegistry, name: str, writer: int, publishes: int
) -> list[tuple[str, float]]:
    """Publish children of whatever the head is, and return their digests and times."""
    made = []
    for k in range(publishes):

        def publish(k: int = k) -> str:
            head = registry.resolve(parse_ref(name))
            batch = hand_made_batch(
                BASE.digest, [(f"Where is {writer}?", f"Oslo {k}")], seed=1000 * writer + k
            )
            parent = (head, registry.manifest(head))
            return registry.publish(draft_of(name, BASE, parents=[parent], batch=batch)).digest

        made.append(timed(publish))
    return made


def check(registry: MlflowRegistry, name: str, made: set[str]) -> dict[str, Any]:
    """Check that all that was published is there, whole, and reached from the heads."""
    versions = registry.versions(name)
    assert [v.version for v in versions] == list(range(1, len(made) + 2))
    by_digest = {v.digest: v for v in versions}
    assert set(by_digest) == made | {versions[0].digest}
    tips = heads(versions)
    reached, waiting = set[str](), [tip.digest for tip in tips]
    while waiting:
        digest = waiting.pop()
        if digest not in reached:
            reached.add(digest)
            waiting += by_digest[digest].parents
    assert reached == set(by_digest)
    batches = {}
    for version in versions:
        manifest = registry.manifest(version)
        assert registry.inconsistencies(version, manifest) == []
        batches.update({ref.digest: ref for ref in manifest.batches})
    assert len(batches) == len(made)
    for ref in batches.values():
        registry.stored_batch(ref)
    assert registry.leftovers(name) == []
    return {"versions": len(versions), "heads": len(tips), "batches": len(batches)}


def main() -> None:
    args = arguments(__doc__, processes=8, publishes=20)
    name = f"applies-{secrets.token_hex(4)}"
    with opened(args.through):
        alone(lambda registry: [root(registry, name)])
        done, seconds = timed(
            lambda: race(
                args.processes,
                lambda registry, i: publish_often(registry, name, i, args.publishes),
            )
        )
        made = [one for published in done for one in published]
        digests = {digest for digest, _ in made}
        assert len(digests) == len(made) == args.processes * args.publishes
        (found,) = alone(lambda registry: [check(registry, name, digests)])
    report(
        processes=args.processes,
        publishes=args.publishes,
        through=args.through,
        published=len(made),
        failed=0,
        **found,
        seconds=round(seconds, 1),
        seconds_each=spread([each for _, each in made]),
    )


if __name__ == "__main__":
    main()
