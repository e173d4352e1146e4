"""Find a smallest subset that still fails (Zeller & Hildebrandt 2002, "Simplifying and Isolating
Failure-Inducing Input", IEEE TSE 28(2)).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeVar

Outcome = Literal["good", "bad", "skip"]
Item = TypeVar("Item", bound=Hashable)


def smallest_bad(items: Sequence[Item], outcome: Callable[[Sequence[Item]], Outcome]) -> list[Item]:
    r"""Return a subset that is bad and of which no single item can be left out (1-minimal).

    ddmin: test ever smaller parts and their complements, $n = 2, 4, \dots$; what cannot be judged
    counts as not bad. At most $O(n^2)$ tests, $O(\log n)$ where one item alone is to blame.

    Args:
        items: all of them together are bad.
        outcome: judges a subset, given in the order of `items`; asked once for each subset.
    """
    judged: dict[tuple[Item, ...], Outcome] = {}

    def bad(some: Sequence[Item]) -> bool:
        key = tuple(some)
        if key not in judged:
            judged[key] = outcome(some)
        return judged[key] == "bad"

    left = list(items)
    n_parts = 2
    while len(left) >= 2:
        parts = _split(left, min(n_parts, len(left)))
        smaller = next((part for part in parts if bad(part)), None)
        if smaller is not None:
            left, n_parts = smaller, 2
            continue
        complements = [[i for i in left if i not in part] for part in map(set, parts)]
        smaller = next((rest for rest in complements if n_parts > 2 and bad(rest)), None)
        if smaller is not None:
            left, n_parts = smaller, max(n_parts - 1, 2)
            continue
        if n_parts >= len(left):
            break
        n_parts = min(2 * n_parts, len(left))
    return left


def _split(items: Sequence[Item], n_parts: int) -> list[list[Item]]:
    bounds = [len(items) * i // n_parts for i in range(n_parts + 1)]
    return [list(items[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]
