"""Reading of YAML from untrusted sources, within bounds on size, depth and numbers.

Aliases multiply: a few lines can stand for more nodes than any memory holds, so nodes are counted as often as they are
used before a value is built.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

# Largest document that is read: bytes of the file, levels of nesting, and nodes, with aliases followed.
MOST_BYTES, MOST_LEVELS, MOST_NODES = 2**20, 50, 50_000
_TOO_MUCH = f"more than {MOST_LEVELS} levels of nesting or {MOST_NODES:,} values, those of aliases counted"
# Integers have at most 64 bits.
_LIMIT = 2**63

# Line in the file of each place in the tree, from 1.
Lines = dict[tuple[Any, ...], int]


class UnreadableError(Exception):
    """Raised with the reason, in one line, why a text cannot be read."""


def read_text(path: Path) -> str:
    """Return the text of a regular file of at most `MOST_BYTES` bytes of UTF-8; raises UnreadableError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError("it is no regular file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UnreadableError(f"it is larger than {MOST_BYTES:,} bytes")
        return data.decode()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is not UTF-8 (byte {error.start})") from None
    except ValueError:  # a NUL in its name, or a name that is not UTF-8
        raise UnreadableError("no file can have that name") from None


def parse(text: str) -> tuple[Any, Lines]:
    """Return plain data, of the types that JSON has, and the lines of its keys and items; raises UnreadableError."""
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
    """A loader of plain data with at most `MOST_NODES` nodes on `MOST_LEVELS` levels."""

    depth = nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > MOST_LEVELS or self.nodes > MOST_NODES:
            raise _refused(self.peek_event(), _TOO_MUCH)  # type: ignore[no-untyped-call]
        node: Node | None = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # PyYAML's constructors raise any of these, depending on the type that they read.
            raise _refused(node, f"{_shown(node)} is no {node.tag.rpartition(':')[2]}") from None
        if isinstance(value, int) and not -_LIMIT <= value < _LIMIT:
            raise _refused(node, "an integer beyond 64 bits")
        if value is not None and not isinstance(value, (str, int, float, list, dict)):
            raise _refused(node, f"{_shown(node)} is a {type(value).__name__} in YAML; put text in quotes")
        return value


def _refused(node: Any, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)  # type: ignore[no-untyped-call]


def _shown(node: Node) -> str:
    return repr(node.value[:40]) if isinstance(node, ScalarNode) else "this"


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    message = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {message}." if mark else message


def _check(node: Node, sizes: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the numbers of nodes and levels of a tree, aliases followed.

    Raises ConstructorError if they are too many or endless, and for keys that are no names or come twice.

    Args:
        sizes: results for other nodes, by identity; (0, 0) for the ancestors of this one.
    """
    if isinstance(node, ScalarNode):
        return 1, 1
    if id(node) in sizes:
        if sizes[id(node)] == (0, 0):
            raise _refused(node, "an anchor that contains itself")
        return sizes[id(node)]
    sizes[id(node)] = (0, 0)
    if isinstance(node, MappingNode):
        _check_keys(node)
    below = [_check(child, sizes) for child in _children(node)]
    sizes[id(node)] = 1 + sum(count for count, _ in below), 1 + max((depth for _, depth in below), default=0)
    count, depth = sizes[id(node)]
    if count > MOST_NODES or depth > MOST_LEVELS:
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
    for name, start, child in children:
        lines[(*path, name)] = start.start_mark.line + 1
        _note_lines(child, (*path, name), lines)
