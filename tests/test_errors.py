"""Error codes: each is explained, used and raised as the class that its kind says; ERRORS.md is generated from them."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsesearch import cli, errors
from sparsesearch.error_codes import CODES, EXIT_CODES, GROUPS, UNFORESEEN_EXIT, errors_page

PACKAGE = Path(errors.__file__).parent
CODE = re.compile(r"\bSS\d{3}\b")
CLASSES = {
    "input": (errors.InputError,),
    "environment": (errors.EnvironmentProblem,),
    "damaged": (errors.DamagedFile, errors.EnvironmentProblem),
    "run": (errors.SparseSearchError,),
    "infeasible": (errors.InfeasibleError,),
}
RAISERS = {cls.__name__: cls for classes in CLASSES.values() for cls in classes}


def docstrings_of(tree: ast.Module) -> Iterator[ast.expr]:
    """String statements: docstrings of modules, classes and functions, and notes below an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


# By code: the places where a text begins with it or names it, those where it is passed as a code, and how it is raised.
named: dict[str, list[str]] = defaultdict(list)
passed: dict[str, list[str]] = defaultdict(list)
raised: dict[str, list[tuple[str, str]]] = defaultdict(list)
for path in sorted(PACKAGE.rglob("*.py")):
    if path.name == "error_codes.py":
        continue
    module = ast.parse(path.read_text())
    explanations = set(map(id, docstrings_of(module)))
    for node in ast.walk(module):
        place = f"{path.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explanations:
            for code in CODE.findall(node.value):
                named[code].append(place)
            if CODE.fullmatch(node.value):
                passed[node.value].append(place)
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name == "problem" or name in RAISERS:
                arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
                for value in (a.value for a in arguments if isinstance(a, ast.Constant)):
                    if isinstance(value, str) and CODE.fullmatch(value):
                        raised[value].append((name, place))


def test_errors_md_is_what_the_table_generates() -> None:
    assert (PACKAGE / "ERRORS.md").read_text(encoding="utf-8") == errors_page()


def test_every_code_used_is_in_the_table_and_vice_versa() -> None:
    assert set(named) == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_explained(code: str) -> None:
    kind, cause, remedy = CODES[code]
    assert code[2] in GROUPS
    for sentence in (cause, remedy):
        assert sentence.endswith((".", ")", "`")), sentence
        assert "|" not in sentence, "it stands in a table"
    assert kind == "warning" or EXIT_CODES[kind] == CLASSES[kind][0].exit_code


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_raised_as_its_kind(code: str) -> None:
    kind = CODES[code].kind
    if kind == "warning":
        assert not passed[code], "a warning is a line of text and never raised"
        return
    assert passed[code], "an error is raised somewhere"
    for name, place in raised[code]:
        cls = type(errors.problem(code, "It is wrong.")) if name == "problem" else RAISERS[name]
        assert cls in CLASSES[kind], f"{place} makes {cls.__name__}, and {code} is of kind {kind}"


def test_an_unforeseen_error_is_one_line_with_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["sparsesearch", "front"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == UNFORESEEN_EXIT == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("SS900 sparsesearch front failed: ZeroDivisionError: by hand.")
