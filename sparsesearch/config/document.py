"""YAML of anybody's, read within bounds on size, depth and numbers before anything is made of it.

Aliases multiply: a few lines can stand for more nodes than any memory holds, so nodes are counted as often as they are
used before one value is built.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

# Bytes of a file, levels of nesting, and nodes with aliases followed, that are still read.
LARGEST, DEEPEST, MOST_NODES = 2**20, 50, 50_000
_TOO_MUCH = f"more than {DEEPEST} levels of nesting or {MOST_NODES:,} values, those of aliases counted"
# Integers have at most 64 bits.
_LIMIT = 2**63

# By place in the tree, its line in the file.
Lines = dict[tuple[Any, ...], int]


class UnreadableError(Exception):
    """Why a text is not read, in one line."""


def read_text(path: Path) -> str:
    """The text of a regular file of at most `LARGEST` bytes of UTF-8; raises UnreadableError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError("it is no regular file")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UnreadableError(f"it is larger than {LARGEST:,} bytes")
        return data.decode()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is not UTF-8 (byte {error.start})") from None
    except ValueError:  # a NUL, or what is no UTF-8, in its name
        raise UnreadableError("no file can have that name") from None


def parse(text: str) -> tuple[Any, Lines]:
    """Plain data (what JSON knows) and the lines of its keys and items; raises UnreadableError."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, {}
        _check(root, {})
        data = loader.construct_document(root)
    except yaml.YAMLError as error:
        raise UnreadableError(f"not valid YAML: {_problem(error)}") from None
    lines: Lines = {}
    _note_lines(root, (), lines)
    return data, lines


class _Loader(yaml.SafeLoader):
    """Plain data alone, at most `MOST_NODES` nodes on `DEEPEST` levels."""

    depth = nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > DEEPEST or self.nodes > MOST_NODES:
            raise _refused(self.peek_event(), _TOO_MUCH)  # type: ignore[no-untyped-call]
        node: Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # What the constructors of PyYAML raise: each reads its text in a way of its own.
            raise _refused(node, f"{_shown(node)} is no {node.tag.rpartition(':')[2]}") from None
        if isinstance(value, int) and not -_LIMIT <= value < _LIMIT:
            raise _refused(node, "an integer beyond 64 bits")
        if value is not None and not isinstance(value, (str, int, float, list, dict)):
            raise _refused(node, f"{_shown(node)} is a {type(value).__name__} in YAML; put text in quotes")
        return value


def _refused(there: Any, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, there.start_mark)  # type: ignore[no-untyped-call]


def _shown(node: Node) -> str:
    return repr(node.value[:40]) if isinstance(node, ScalarNode) else "this"


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}." if mark else what


def _check(node: Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Nodes and levels below a node, aliases followed; raises ConstructorError where they are too many or endless, and
    for keys that are no names or come twice.

    Args:
        known: what was found for other nodes by identity; (0, 0) for those that are being looked at.
    """
    if isinstance(node, ScalarNode):
        return 1, 1
    if id(node) in known:
        if known[id(node)] == (0, 0):
            raise _refused(node, "an anchor that contains itself")
        return known[id(node)]
    known[id(node)] = (0, 0)
    if isinstance(node, MappingNode):
        _check_keys(node)
    below = [_check(child, known) for child in _children(node)]
    known[id(node)] = 1 + sum(count for count, _ in below), 1 + max((depth for _, depth in below), default=0)
    count, depth = known[id(node)]
    if count > MOST_NODES or depth > DEEPEST:
        raise _refused(node, _TOO_MUCH)
    return count, depth


def _check_keys(node: MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise _refused(key, "a key that is no name")
        if key.value in seen:
            raise _refused(key, f"the key {_shown(key)} comes twice")
        seen.add(key.value)


def _children(node: Node) -> list[Node]:
    return [value for _, value in node.value] if isinstance(node, MappingNode) else list(node.value)


def _note_lines(node: Node, path: tuple[Any, ...], lines: Lines) -> None:
    if isinstance(node, MappingNode):
        children = [(key.value, key, value) for key, value in node.value]
    else:
        children = [(i, item, item) for i, item in enumerate(node.value)] if isinstance(node, SequenceNode) else []
    for name, there, child in children:
        lines[(*path, name)] = there.start_mark.line + 1
        _note_lines(child, (*path, name), lines)
