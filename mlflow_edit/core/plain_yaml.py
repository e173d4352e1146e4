"""Read YAML as plain data: text, numbers, lists and objects, each value exactly as it is written.

Scalars are read by the rules of JSON (the core schema of YAML 1.2), so that `no`, `12:30`, `010`
and `2024-01-31` are text, as their authors mean them. Aliases are refused, because a few lines of
them can stand for more data than there is memory; so are tags, and fields that occur twice.
"""

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_READ = {_TAG + name for name in ("int", "float", "bool", "null", "timestamp", "value", "merge")}
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"-?(0|[1-9][0-9]{0,999})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?")


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not read", problem_mark=mark)
        return super().compose_node(parent, index)


def compose(text: str) -> yaml.Node | None:
    """Parse one document into its nodes, or None where it is empty.

    Raises:
        ValueError: it is not YAML, holds an alias, or is nested too deeply.
    """
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    return None if isinstance(node, yaml.ScalarNode) and plain(node) is None else node


def plain(node: yaml.Node) -> Any:
    """Return the value of a node.

    Raises:
        ValueError: it holds a tag, a field that occurs twice, or a field whose name is not text.
    """
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _object(node)
    raise ValueError(f"the tag {node.tag!r} is not read")


def _object(node: yaml.MappingNode) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError("the name of a field must be text")
        if key.value in fields:
            raise ValueError(f"field {key.value!r} occurs twice")
        fields[key.value] = plain(item)
    return fields


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.tag == _TAG + "str":
        return text
    if node.tag not in _READ:
        raise ValueError(f"the tag {node.tag!r} is not read")
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
