"""Processes that race for one alias: no move is lost, and the alias says what the last one says.

Every third move is a rollback.

PYTHONPATH=tests python -m stress.aliases --processes 8 --moves 10
"""

import secrets
from typing import Any

from registry_fixtures import draft_of

from mlflow_edit.core.ledger import Move, moves_of, standing
from mlflow_edit.errors import NotFoundError
from mlflow_edit.operations.promote import promote
from mlflow_edit.operations.rollback import rollback
from mlflow_edit.registry.mlflow_registry import MlflowRegistry
from mlflow_edit.registry.names import parse_ref
from stress.racing import BASE, alone, arguments, opened, race, report, root, spread, timed

ALIAS = "champion"


def versions_to_choose_from(registry: MlflowRegistry, name: str, n_versions: int) -> None:
    """Publish a root and its children."""
    first = root(registry, name)
    manifest = registry.manifest(first)
    for i in range(1, n_versions):
        draft = draft_of(name, BASE, parents=[(first, manifest)], message=f"candidate {i}")
        registry.publish(draft)


def move_often(
    registry: MlflowRegistry, name: str, mover: int, moves: int, n_versions: int
) -> list[tuple[int | None, float]]:
    """Move the alias, and return the number of each move in the ledger, and its time."""

    def move(k: int) -> int | None:
        note = f"{mover}.{k}"
        try:
            if k % 3 == 2:
                return rollback(name, ALIAS, note=note, author="Ada", registry=registry).number
            ref = f"{name}@{1 + (mover + k) % n_versions}"
            return promote(ref, to=ALIAS, note=note, author="Ada", registry=registry).number
        except NotFoundError as error:  # a rollback with nothing to go back to
            if "before" not in str(error):
                raise
            return None

    return [timed(lambda k=k: move(k)) for k in range(moves)]  # type: ignore[misc]


def check(registry: MlflowRegistry, name: str, made: set[int]) -> dict[str, Any]:
    """Check that the ledger holds every move, in order, and that the alias is the last one's."""
    ledger = registry.ledger(name)
    assert list(ledger) == list(range(1, len(ledger) + 1))
    assert set(ledger) == made
    moves = [entry for entry in ledger.values() if isinstance(entry, Move)]
    assert len({entry.note for entry in moves}) == len(made)
    holder = registry.resolve(parse_ref(f"{name}@{ALIAS}"))
    assert holder.digest == moves[-1].to
    assert [v for v in registry.versions(name) if v.aliases] == [holder]
    assert standing(moves_of(ledger, ALIAS))[-1] == holder.digest
    before = [None, *(entry.to for entry in moves[:-1])]
    assert [entry.previous for entry in moves] == before  # none was decided on an old alias
    return {"moves": len(moves)}


def main() -> None:
    args = arguments(__doc__, processes=8, moves=10, versions=5)
    name = f"aliases-{secrets.token_hex(4)}"
    with opened(args.through):
        alone(lambda registry: [versions_to_choose_from(registry, name, args.versions)])
        done, seconds = timed(
            lambda: race(
                args.processes,
                lambda registry, i: move_often(registry, name, i, args.moves, args.versions),
            )
        )
        tried = [one for moved in done for one in moved]
        made = [number for number, _ in tried if number is not None]
        assert len(set(made)) == len(made)
        (found,) = alone(lambda registry: [check(registry, name, set(made))])
    report(
        processes=args.processes,
        moves_each=args.moves,
        through=args.through,
        tried=len(tried),
        nothing_to_roll_back_to=len(tried) - len(made),
        **found,
        seconds=round(seconds, 1),
        seconds_each=spread([each for _, each in tried]),
    )


if __name__ == "__main__":
    main()
