"""Structure of the package: sizes of its subpackages, names of modules, numbers of parameters, plain words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sparsesearch"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
# Modules on a level, but in rooms that hold one idea a file.
MAX_FILES = 13
ONE_IDEA_A_FILE = {"pruning", "proxies", "allocation", "bilevel/methods", "models/families", "cli/verbs"}
# Names that several rooms have for the same thing: a base class, a registry, a method.
SAME_MEANING = {
    "base.py": "the base class of what a room holds",
    "registry.py": "the names of what a room holds",
    "qualities.py": "qualities, and their conformance",
    "front.py": "the front of a run, in Python and as a verb",
    "plan.py": "the plan of a search, and how it is printed",
    "search.py": "the section of a recipe, and the verb",
    "space.py": "the search space, and the verb",
    "status.py": "the status of a run, and the verb",
    "dashboard.py": "the dashboard of a run, and the verb",
    "block_influence.py": "a method of several kinds of parts",
    "cfsp.py": "a method of several kinds of parts",
    "minitron.py": "a method of several kinds of parts",
    "pq_index.py": "a method of several kinds of parts",
    "wanda.py": "a method of several kinds of parts",
}
VERBS = {path.stem for path in (PACKAGE / "cli" / "verbs").glob("*.py")}
# Words of an earlier dialect, and code that fought its formatter.
OLD_WORDS = re.compile(
    r"# fmt: skip|\balive\(|\bshortly\(|\byardstick\b|_looked\b|Of every random choice|\bSCAFFOLDING\b"
)


def test_no_room_has_more_modules_than_fit_on_a_screen() -> None:
    rooms: dict[str, int] = defaultdict(int)
    for path in MODULES:
        rooms[str(path.parent.relative_to(PACKAGE))] += 1
    crowded = {room: count for room, count in rooms.items() if count > MAX_FILES and room not in ONE_IDEA_A_FILE}
    assert not crowded


def test_a_name_of_a_module_means_one_thing() -> None:
    places: dict[str, list[Path]] = defaultdict(list)
    for path in MODULES:
        places[path.name].append(path)
    workflows, learners = {"cli/verbs", "engine/workflows"}, {"bilevel/methods", "searchers/learned"}
    for name, paths in places.items():
        rooms = {str(path.parent.relative_to(PACKAGE)) for path in paths}
        workflow = Path(name).stem in VERBS and rooms <= workflows
        allowed = name in SAME_MEANING or workflow or rooms == learners
        assert len(paths) == 1 or allowed, f"{name} is in {', '.join(sorted(rooms))}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_words_of_the_dialect_are_gone(path: Path) -> None:
    match = OLD_WORDS.search(path.read_text(encoding="utf-8"))
    assert match is None, match


def signatures(most: int) -> list[str]:
    """Functions with more parameters than this, without `self`."""
    names = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
                if len([a for a in arguments if a not in ("self", "cls")]) > most:
                    names.append(f"{path.relative_to(PACKAGE)}:{node.name}")
    return names


def test_few_functions_take_many_positional_arguments() -> None:
    """Verbs have an option a parameter; others carry what belongs together in one object."""
    others = [name for name in signatures(7) if not name.startswith("cli/verbs/")]
    assert len(others) <= 4, others
