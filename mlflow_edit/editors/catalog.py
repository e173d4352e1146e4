"""Find editors by name: ours and other people's come through the same entry point."""

import difflib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mlflow_edit.editors.editor import Editor
from mlflow_edit.errors import InvalidParams, UnknownEditor

GROUP = "mlflow_edit.editors"
DEFAULT_EDITOR = "grace"


def editor_names() -> list[str]:
    """List the editors that are installed."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_editor(name: str, params: Mapping[str, Any]) -> Editor[Any]:
    """Make the editor called `name` with these settings.

    Raises:
        UnknownEditor: none is installed under that name, or its plug-in cannot be loaded.
        InvalidParams: as `Editor.with_params`.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        close = difflib.get_close_matches(name, points, n=1)
        guess = f"Did you mean {close[0]!r}? " if close else ""
        raise UnknownEditor(
            f"no editor called {name!r}",
            hint=f"{guess}Installed: {', '.join(sorted(points))}.",
        )
    return _loaded(points[name]).with_params(params)


def parse_params(given: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Turn `["radius=3", …]` into settings by name.

    Raises:
        InvalidParams: one has no `=`, or a name occurs twice.
    """
    params: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise InvalidParams(f"{item!r} is not NAME=VALUE", hint="For example: --param radius=8")
        if name.strip() in params:
            raise InvalidParams(f"the parameter {name.strip()!r} is given twice")
        params[name.strip()] = value.strip()
    return params


def _loaded(point: EntryPoint) -> type[Editor[Any]]:
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        raise UnknownEditor(f"the editor {point.name!r} cannot be loaded: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Editor)):
        raise UnknownEditor(f"the plug-in {point.value} is not an Editor")
    return loaded
