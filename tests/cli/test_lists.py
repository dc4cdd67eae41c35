"""`sparsesearch list` and `space schema`: what recipes may hold, for people and for programs."""

from __future__ import annotations

from typing import Any

import pytest

from sparsesearch.searchers.recipe_reference import recipe_schema, recipe_tables
from sparsesearch.searchers.registry import SEARCHERS


@pytest.mark.parametrize("what", ["searchers", "pruners", "allocations", "proxies", "supernets", "families", "forms"])
def test_lists_fit_a_terminal(run: Any, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = run("list", what).out.splitlines()
    assert lines
    assert max(map(len, lines)) <= 100


def test_searchers_are_listed_without_options_and_allocations_as_one(run: Any) -> None:
    shown = run("list", "searchers").out
    names = {line.split()[0] for line in shown.splitlines() if line[0] != " "}
    assert {"auto", "optuna:tpe", "allocation:NAME"} <= names
    assert "allocation:erk" not in names
    assert "probes" not in shown


def test_programs_get_every_searcher_with_its_options(run: Any) -> None:
    texts = run("list", "searchers", "--json").json
    assert set(texts) == set(SEARCHERS)
    assert "Options: probes=4, probe_tokens=512, variants=8" in texts["auto"]


@pytest.mark.parametrize("name", ["auto", "darwin", "gates", "optuna:tpe", "allocation:erk"])
def test_one_searcher_is_shown_with_its_options(run: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fields = SEARCHERS[name].Options.model_fields
    monkeypatch.setenv("COLUMNS", "100")
    shown = run("list", "searchers", name).out
    assert all(f"│ {field} " in shown for field in fields)
    entry = run("list", "searchers", name, "--json").json
    assert entry["name"] == name
    assert list(entry["options"]) == list(fields)
    assert entry["options"]["tokens"]["meaning"] == fields["tokens"].description


def test_an_option_has_its_default_and_type(run: Any) -> None:
    options = run("list", "searchers", "auto", "--json").json["options"]
    assert options["moves"]["default"] == "0.1"
    assert options["moves"]["type"] == "number 0 to 1"


@pytest.mark.parametrize(
    ("what", "name", "words"),
    [
        ("searchers", "nsga", "SS102 searcher 'nsga' not found. Did you mean 'nsga"),
        ("searchers", "x" * 5000, "SS102"),
        ("searchers", "", "SS102"),
        ("pruners", "obs", "SS101 list pruners 'obs': only searchers have options."),
    ],
)
def test_no_such_searcher_is_one_line(run: Any, what: str, name: str, words: str) -> None:
    outcome = run("list", what, name)
    assert outcome.code == 2
    assert outcome.err.startswith(words)
    assert outcome.err.count("\n") == 1


def test_the_schema_is_printed(run: Any) -> None:
    assert run("space", "schema").json == recipe_schema()
    assert run("space", "schema", "--markdown").out == recipe_tables()
