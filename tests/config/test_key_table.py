"""Every key of a recipe is described, and search_spaces/README.md and the JSON schema follow from the code.

`python tests/config/test_key_table.py` writes the README's tables anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from sparsesearch.config import Fraction, RunConfig, Strict
from sparsesearch.config.key_table import Key, keys_of, markdown_keys, sections_of
from sparsesearch.searchers.recipe_reference import recipe_schema, recipe_tables
from sparsesearch.searchers.registry import SEARCHERS

SPACES = Path(__file__).parents[2] / "search_spaces"
README = SPACES / "README.md"
BEGIN, END = "<!-- The rest is generated from the code", "<!-- End of the generated part -->"
OPTIONS = {name: cls.Options for name, cls in SEARCHERS.items() if cls.__module__.startswith("sparsesearch.")}
MODELS = {section.model.__name__: section.model for section in sections_of(RunConfig)} | OPTIONS
RECIPES = sorted(SPACES.glob("*.yaml"))
SMALL = {"units": [{"kind": "sparsity"}]}


def generated(text: str) -> str:
    """The README's text with tables of today's code between its markers."""
    head, begin, rest = text.partition(BEGIN)
    comment, _, _ = rest.partition("\n")
    return f"{head}{begin}{comment}\n\n{recipe_tables()}\n{END}\n"


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_key_is_described_in_a_sentence(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        place = f"{model.__module__}.{model.__qualname__}.{name}"
        assert field.description, f"{place} has no description. Add one: Field(default, description='...')."
        assert field.description.endswith("."), f"the description of {place} is no sentence"


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    text = README.read_text()
    assert BEGIN in text
    assert END in text
    assert text == generated(text), (
        "search_spaces/README.md is out of date: its tables are generated from the descriptions of the configuration's "
        "and the searchers' fields. Run: python tests/config/test_key_table.py"
    )


def test_the_readme_lists_every_recipe_and_every_key() -> None:
    head, _, tables = README.read_text().partition(BEGIN)
    assert all(f"[{path.name}]({path.name})" in head for path in RECIPES)
    places = [key.name for section in sections_of(RunConfig) for key in section.keys]
    assert {"units.N.levels.around", "data.calibration.image.size", "search.rungs.N.tokens", "training.warmup"} <= {
        *places
    }
    assert all(f"| `{place}` |" in tables for place in places)


class Inner(Strict):
    share: Fraction = Field(0.5, description="A share.")


class Outer(Strict):
    count: int = Field(ge=1, le=9, description="A count, a|b.")
    names: list[str] | None = None
    inner: Inner = Inner(share=0.25)
    others: list[Inner] = []


def test_keys_have_types_defaults_and_meanings() -> None:
    assert keys_of(Outer, "x") == (
        Key("x.count", "integer 1 to 9", "required", "A count, a|b."),
        Key("x.names", "list of texts or null", "null", ""),
        Key("x.inner", "group of keys", "{share: 0.25}", ""),
        Key("x.others", "list of groups of keys", "[]", ""),
    )
    assert [(s.model, s.paths) for s in sections_of(Outer)] == [(Outer, ("",)), (Inner, ("inner", "others.N"))]
    assert sections_of(Outer)[1].keys == (Key("inner.share", "fraction", "0.5", "A share."),)
    assert r"| `x.count` | integer 1 to 9 | required | A count, a\|b. |" in markdown_keys(keys_of(Outer, "x"))


SCHEMA = recipe_schema()


def faults(recipe: dict[str, Any], schema: dict[str, Any] = SCHEMA) -> list[str]:
    """Why a recipe does not fit a JSON schema."""
    validators = pytest.importorskip("jsonschema").validators
    return [error.message for error in validators.validator_for(schema)(schema).iter_errors(recipe)]


def test_the_schema_is_one() -> None:
    pytest.importorskip("jsonschema").validators.validator_for(SCHEMA).check_schema(SCHEMA)
    assert SCHEMA["properties"]["context"]["description"] == RunConfig.model_fields["context"].description


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_fits_the_schema(path: Path) -> None:
    assert not faults(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "part",
    [
        {"supernet": "sandwich"},
        {"supernet": {"kind": "sandwich", "training": {"warmup": "5%"}}},
        {"units": [{"kind": "sparsity", "levels": ["50%", 0.75], "max_sparsity": "95 %"}]},
        {"units": [{"kind": "sparsity", "levels": {"around": "70%"}}, {"kind": "ffn_width", "align": "nemotron_nas"}]},
        {"pruners": {"pattern": "2:4"}},
        {"data": {"calibration": {"source": ["a.txt", "b.txt"]}, "test": None}},
        {"search": {"options": {"probes": 2}}},
        {"search": {"searcher": "nsga3", "options": {"population": 8}}},
        {"search": {"searcher": "gates", "options": {"sizes": ["params<=50%"], "ramp": "20%"}}},
        {"search": {"searcher": "of_a_plugin", "options": {"anything": 1}}},
    ],
    ids=str,
)
def test_what_a_recipe_may_hold_fits_the_schema(part: dict[str, Any]) -> None:
    RunConfig.model_validate(SMALL | part)
    assert not faults(SMALL | part)


@pytest.mark.parametrize(
    "part",
    [
        {"units": []},
        {"units": [{"kind": "widths"}]},
        {"units": [{"kind": "sparsity", "max_sparsity": "95"}]},
        {"units": [{"kind": "sparsity", "max_sparsity": 95}]},
        {"supernet": "sandwiches"},
        {"limts": []},
        {"pruners": {"pattern": "2-4"}},
        {"search": {"options": {"population": 8}}},
        {"search": {"searcher": "nsga2", "options": {"probes": 2}}},
        {"search": {"searcher": "optuna:tpe", "options": {"batch": 0}}},
    ],
    ids=str,
)
def test_mistakes_do_not_fit_the_schema(part: dict[str, Any]) -> None:
    assert faults(SMALL | part)


def test_options_of_a_plugin_without_a_schema_are_any() -> None:
    class Mine(SEARCHERS["random"]):  # type: ignore[misc]
        class Options(Strict):
            inner: Inner = Inner()

    with SEARCHERS.restored():
        SEARCHERS.register("mine")(Mine)
        schema = recipe_schema()
        assert "mine" in schema["$defs"]["SearchConfig"]["properties"]["searcher"]["examples"]
        assert not faults(SMALL | {"search": {"searcher": "mine", "options": {"inner": {"share": 1}}}}, schema)
        assert "`mine`" not in recipe_tables()


if __name__ == "__main__":
    README.write_text(generated(README.read_text()))
