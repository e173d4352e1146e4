"""Settle conflicts by what was chosen for each, or for its kind."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from mlflow_edit.core.conflicts import CHOICES, Choice, Conflict, ConflictKind, released, settled
from mlflow_edit.core.content import Content
from mlflow_edit.core.contextual import deltas_in_force
from mlflow_edit.core.manifest import Resolution
from mlflow_edit.core.plain_yaml import compose, plain
from mlflow_edit.errors import InvalidInputError, MergeConflict

MAX_FILE = 16 * 1024 * 1024


class Choices:
    """What to do about conflicts: by kind, and by id, which counts more.

    Raises:
        InvalidInputError: a kind or a choice that there is not.
    """

    def __init__(
        self, by_kind: Mapping[str, str] | None = None, by_id: Mapping[str, str] | None = None
    ) -> None:
        self._by_kind, self._by_id = dict(by_kind or {}), dict(by_id or {})
        for kind, choice in self._by_kind.items():
            if choice not in CHOICES.get(kind, ()):
                known = "; ".join(f"{k}={'|'.join(c)}" for k, c in CHOICES.items())
                raise InvalidInputError(f"no such choice: {kind}={choice}", hint=known)
        for conflict, choice in self._by_id.items():
            if choice not in get_args(Choice):
                raise InvalidInputError(f"{conflict}: no such choice: {choice!r}")

    def of(self, conflict: Conflict) -> Choice | None:
        """Return what was chosen.

        Raises:
            InvalidInputError: what was chosen cannot be done with this conflict.
        """
        choice = self._by_id.get(conflict.id) or self._by_kind.get(conflict.kind)
        if choice is None:
            return None
        allowed = conflict.choices
        found: Choice | None = next((c for c in allowed if c == choice), None)
        if found is None:
            raise InvalidInputError(
                f"{conflict.id} ({conflict.kind}) cannot be resolved by {choice!r}",
                hint=f"Choose one of {', '.join(allowed)}.",
            )
        return found

    def unknown(self, conflicts: Iterable[Conflict]) -> list[str]:
        """Return the ids that no conflict has."""
        return sorted(set(self._by_id) - {conflict.id for conflict in conflicts})


def resolve(
    content: Content, conflicts: Sequence[Conflict], choices: Choices
) -> tuple[Content, tuple[Resolution, ...], list[Conflict]]:
    """Apply the choices; return the content, what to record, and what is left to resolve."""
    exclusions, resolutions, left = set(content.exclusions), [], []
    for conflict in conflicts:
        choice = choices.of(conflict)
        if choice is None:
            left += [conflict] if conflict.blocking else []
            continue
        exclusions -= set(released(conflict, choice, exclusions))
        exclusions |= set(settled(conflict, choice))
        resolutions.append(Resolution(conflict=conflict.id, kind=conflict.kind, choice=choice))
    closed = Content.closed(content.batches.values(), exclusions)
    _check_whole(closed)
    return closed, tuple(resolutions), left


def _check_whole(content: Content) -> None:
    """Refuse to take single edits out of weights in force: only learning can do that."""
    acting = deltas_in_force(content.batches.values(), content.excluded())
    for item in sorted(content.exclusions, key=lambda item: item.key):
        if item.reason == "reverted" and item.batch in acting:
            raise InvalidInputError(
                f"edit {item.edit} is part of the weights of batch {item.batch[:12]}",
                hint="Revert it on its own side first, which learns the batch again without it: "
                f"mledit revert NAME@REF {item.batch[:12]}:{item.edit}",
            )


def unresolved(left: Sequence[Conflict], *, hint: str, outcome: Any = None) -> MergeConflict:
    """Make the error that names the conflicts that are left."""
    shown = "\n  ".join(f"{c.id} {c.kind}: {c.message}" for c in left[:10])
    more = f"\n  … and {len(left) - 10} more" if len(left) > 10 else ""
    count = f"{len(left)} conflict" + ("s" if len(left) > 1 else "")
    said = f"{count} to resolve; nothing was registered\n  {shown}{more}"
    return MergeConflict(said, conflicts=left, outcome=outcome, hint=hint)


def parse_choices(pairs: Iterable[str]) -> dict[str, str]:
    """Read `kind=choice` pairs.

    Raises:
        InvalidInputError: one is malformed.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        kind, equals, choice = pair.partition("=")
        if not equals or kind not in get_args(ConflictKind):
            raise InvalidInputError(
                f"{pair!r} chooses nothing", hint="Write -X contradiction=ours|theirs|drop|both."
            )
        found[kind] = choice
    return found


def read_resolutions(path: Path) -> dict[str, str]:
    """Read a file of `conflict id: choice` lines (YAML), or a JSON object of the same.

    Raises:
        InvalidInputError: it cannot be read, or is malformed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MAX_FILE:
            raise ValueError("too long")
        fields: Any = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the resolutions {path} cannot be read: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(v, str) for v in fields.values()):
        raise InvalidInputError(
            f"{path} holds no resolutions", hint="Write one a line: c-0123456789: ours"
        )
    return fields


def _yaml(text: str) -> Any:
    root = compose(text)
    return {} if root is None else plain(root)
