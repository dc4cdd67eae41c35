"""Recipes, limits, rules and assignments of anybody's: a value or one line, soon, whatever they hold."""

from __future__ import annotations

import contextlib
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sparsesearch import pareto
from sparsesearch.config import RunConfig, load_config, parse_assignment, validate
from sparsesearch.errors import InputError, SparseSearchError
from sparsesearch.space import Limit

UNITS = "units:\n- kind: sparsity\n"
SECONDS = 30


def laughs(key: str) -> str:
    """Nine lines that stand for 9^10 values."""
    first, *rest = (f"&a{i} [{','.join([f'*a{i - 1}' if i else 'x'] * 9)}]" for i in range(10))
    return f"{key}: {first}\n" + "".join(f"a{i}: {text}\n" for i, text in enumerate(rest))


def test_nine_lines_are_not_taken_for_nine_to_the_tenth_values() -> None:
    assert len(laughs("x")) < 1000


RECIPES = {
    "aliases that multiply": (laughs("x") + UNITS, "those of aliases counted"),
    "the same as options": (UNITS + "search: {searcher: random, options: &o {a: 1}}\n" + laughs("x"), "aliases"),
    "an anchor in itself": ("x: &x [*x]\n" + UNITS, "contains itself"),
    "an anchor in its own mapping": ("x: &x {y: {z: *x}}\n" + UNITS, "contains itself"),
    "an alias of nothing": (UNITS + "x: *nothing", "undefined alias"),
    "brackets": (UNITS + "x: " + "[" * 20_000, "levels of nesting"),
    "blocks": ("".join(f"{' ' * i}a:\n" for i in range(1000)), "levels of nesting"),
    "depth through aliases": (
        "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 1}]\n" for i in range(3000)),
        "levels of nesting",
    ),
    "5000 digits": (UNITS + f"search: {{seed: {'9' * 5000}}}", "is no int"),
    "hexadecimal digits": (UNITS + f"batch: 0x{'f' * 5000}", "beyond 64 bits"),
    "base 60": (UNITS + f"batch: {':'.join(['1'] * 300)}", "beyond 64 bits"),
    "base 60 with a point": (UNITS + f"batch: {':'.join(['1'] * 300)}.5", "is no float"),
    "a date that is none": (UNITS + "search: {evals: 2024-99-99}", "is no timestamp"),
    "a date": (UNITS + "model: {id: 2024-01-01}", "put text in quotes"),
    "no int": (UNITS + "batch: !!int abc", "is no int"),
    "no float": (UNITS + "batch: !!float abc", "is no float"),
    "no bool": (UNITS + "batch: !!bool abc", "is no bool"),
    "no timestamp": (UNITS + "batch: !!timestamp x", "is no timestamp"),
    "a set": (UNITS + "batch: !!set {a}", "is a set"),
    "bytes": (UNITS + "batch: !!binary aaaa", "is a bytes"),
    "code": (UNITS + "batch: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "a key twice": (UNITS + "batch: 1\nbatch: 2\n", "line 4, column 1: the key 'batch' comes twice"),
    "a key that is a list": (UNITS + "? [1]\n: 2", "a key that is no name"),
    "a key that is a number": (UNITS + "1: 1", "Keys should be strings"),
    "brackets in a key": (UNITS + "'units[0]': 1", "units[0]: unknown key"),
    "a line break in a key": (UNITS + '"a\\nb": 1', "unknown key"),
    "a type as a key": (UNITS + "int: 1", "int: unknown key"),
    "NUL": ("a: \0", "special characters are not allowed"),
    "NUL in a name": (UNITS + 'model: {id: "\\0"}', "control characters"),
    "half a character": (UNITS + 'model: {id: "\\uD800"}', "not UTF-8"),
    "a long name": (UNITS + f"model: {{id: {'x' * 5000}}}", "too long"),
    "a user that is none": (UNITS + "model: {id: ~nosuchuser/model}", "no such user"),
    "no name": (UNITS + "model: {id: ''}", "is empty"),
    "no sources": (UNITS + "data: {calibration: {source: []}}", "data.calibration.source"),
    "nothing": ("", "a recipe is a mapping"),
    "more values than are read": (UNITS + f"x: [{'1,' * 150_000}]", "50,000 values"),
    "more bytes than are read": (UNITS + "# " + "x" * 2**20, "larger than"),
}


@pytest.mark.parametrize(("text", "words"), RECIPES.values(), ids=RECIPES)
def test_hostile_recipes_are_one_line_soon(tmp_path: Path, text: str, words: str) -> None:
    path, started = tmp_path / "recipe.yaml", time.monotonic()
    path.write_text(text)
    assert words in refused(lambda: load_config(path))
    assert time.monotonic() - started < SECONDS


def refused(do: Any) -> str:
    """The one line with which something is refused, as input: exit code 2."""
    with pytest.raises(InputError) as caught:
        do()
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 2000
    return text


@pytest.mark.parametrize(
    "data", ["é: 1".encode("latin-1"), "a: 1".encode("utf-16"), bytes(range(128, 256)), b"\xff" * 99]
)
def test_what_is_no_utf8_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    assert "it is not UTF-8 (byte" in refused(lambda: load_config(path))


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        assert "it is no regular file" in refused(lambda path=path: load_config(path))
    assert "symbolic links" in refused(lambda: load_config(tmp_path / "loop"))
    assert "No such file" in refused(lambda: load_config(tmp_path / "none"))
    assert "no file can have that name" in refused(lambda: load_config(Path("a\0b")))
    with pytest.raises(InputError, match="SS100"):
        load_config(Path("x" * 5000))


def test_anchors_and_merges_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "units: [&u {kind: ffn_width, levels: 4}, {<<: *u, kind: kv_groups}]\n"
        "data: {calibration: &d {source: x, length: 8}, selection: *d}\n"
    )
    config = load_config(path)
    assert [(unit.kind, unit.levels) for unit in config.units] == [("ffn_width", 4), ("kv_groups", 4)]
    assert config.data.selection == config.data.calibration


def places(model: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every key of the configuration whose value is a number, with the JSON schema of its value."""
    options = []
    for name, schema in model["properties"].items():
        for option in schema.get("anyOf", [schema]):
            if "$ref" in option:
                options += places(SCHEMA["$defs"][option["$ref"].split("/")[-1]], (*path, name))
            elif option.get("type") in ("integer", "number"):
                options.append(((*path, name), option))
    return options


SCHEMA = RunConfig.model_json_schema()
NUMBERS = places(SCHEMA)
# Values that the configuration needs to be whole where a part of it is given.
NEEDED: dict[str, Any] = {"screen": {"proxy": "wanda"}, "image": {"size": 8}, "test": {"source": "x"}}


@pytest.mark.parametrize(("path", "schema"), NUMBERS, ids=[".".join(path) for path, _ in NUMBERS])
def test_no_number_is_without_bounds(path: tuple[str, ...], schema: dict[str, Any]) -> None:
    too_large = 2**63 if schema["type"] == "integer" else 10**400
    for value in (math.inf, -math.inf, math.nan, too_large, -(10**18)):
        assert path[-1] in refused(lambda value=value: validate(with_number(path, value), "recipe"))


def with_number(path: tuple[str, ...], value: float) -> dict[str, Any]:
    """A recipe that sets one number."""
    tree: dict[str, Any] = {"units": [{"kind": "sparsity"}]}
    place = tree
    for part in path[:-1]:
        place[part] = dict(NEEDED.get(part, {"source": "x"} if place is tree.get("data") else {}))
        place = place[part]
    place[path[-1]] = value
    return tree


@pytest.mark.parametrize("levels", [0, -1, 32_768, 10**9, 10**400, [], [float("nan")], [0.5] * 32_768, {}, "x"])
def test_levels_fit_a_genome(levels: Any) -> None:
    assert "units[0].levels" in refused(lambda: validate({"units": [{"kind": "sparsity", "levels": levels}]}, "r"))


ASSIGNMENTS = [
    "units[0].kind=x",
    "a..b=1",
    "=1",
    " =1",
    "a.=1",
    ".a=1",
    "x",
    "",
    f"search.seed={'9' * 5000}",
    "search.evals=2024-99-99",
    "x=" + "[" * 20_000,
    "x=\udcff",
    "\udcff=1",
    "x=a: b: c",
    "x=!!int abc",
    "x=*y",
]


@pytest.mark.parametrize("text", ASSIGNMENTS, ids=lambda text: ascii(text)[:20])
def test_assignments_that_are_none(text: str) -> None:
    assert refused(lambda: parse_assignment(text)).startswith("SS101")


@pytest.mark.parametrize(
    "key",
    [
        "units.-1.kind",
        "units.9.kind",
        "units.².kind",
        "units.٣.kind",
        "units. 0.kind",
        "units.1_0.kind",
        f"units.{'9' * 5000}.kind",
        "version.x.y",
        "objectives.0.x.y",
    ],
)
def test_places_that_there_are_not(tmp_path: Path, key: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(UNITS + "version: 1\nobjectives: [kl, params]\n")
    assert refused(lambda: load_config(path, {key: "sparsity"})).startswith("SS101 cannot set")


@pytest.mark.parametrize(
    "text",
    [
        "params<=1e400",
        "params<=1e99",
        "params<=1e19",
        "params<=1000000000T",
        "params<=-5",
        "params<=nan",
        "params<=inf",
        "params<=٥",
        "params<=５",
        "params<=.",
        "params<=",
        "",
        " ",
        "params<=1_000",
        f"params<={'9' * 5000}",
        "\0",
        "params<=0x10",
        "params<=1e1.5",
        "params<=60%%",
        "params<=60 %x",
        "params\n<=",
        "<=60%",
        "sparsity>=nan%",
    ],
)
def test_limits_that_are_none(text: str) -> None:
    assert refused(lambda: Limit.parse(text))[:5] in ("SS102", "SS105")


ROWS = [{"kl": 1.0, "params": 9.0}, {"kl": 2.0, "params": 4.0}, {"kl": 4.0, "params": 1.0}]


def picked(rule: str) -> dict[str, float]:
    return pareto.pick(rule, ROWS, dict, ["kl", "params"], {"params": 10})


@pytest.mark.parametrize(
    "rule",
    [
        "",
        " ",
        "knee:x",
        "min",
        "min:",
        "min:x",
        "weights:",
        "weights:kl",
        "weights:kl=1",
        "weights:kl=1,kl=2",
        "weights:kl=0,params=0",
        "weights:kl=-1,params=1",
        "weights:kl=nan,params=1",
        "weights:kl=inf,params=1",
        "weights:kl=1e3,params=1",
        "weights:kl=²,params=1",
        "weights:kl=٣,params=1",
        "weights:x=1,kl=1",
        f"weights:kl={'9' * 400},params=1",
        "max-under:",
        "max-under:params",
        "max-under:params=nan",
        "x" * 5000,
        "max-under:params=-1",
        "max-under:sparsity>=50%",
        "max-under:kl=1",
        "max-under:macs=5",
        "max-under:params=1%",
    ],
)
def test_rules_that_are_none(rule: str) -> None:
    assert refused(lambda: picked(rule))[:5] in ("SS501", "SS105", "SS102")


TEXTS = st.text(max_size=200) | st.text(alphabet="abkl:=<>%.,0123456789eKMiB {}[]&*!-'\"\n\t#", max_size=200)
KEYS = ("units", "kind", "levels", "search", "model", "id", "data", "seed", "executor", "options", "<<", "int", "x[0]")
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["sparsity", "demo"])
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)
WHOLE = (Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml").read_text()
FUZZED = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def is_value_or_one_line(do: Any) -> None:
    with contextlib.suppress(SparseSearchError):
        try:
            do()
        except SparseSearchError as error:
            assert "\n" not in str(error)
            raise


@given(TEXTS)
@FUZZED
def test_any_text_as_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    is_value_or_one_line(lambda: load_config(path))


@given(st.binary(max_size=300))
@FUZZED
def test_any_bytes_as_recipe(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    is_value_or_one_line(lambda: load_config(path))


@given(st.integers(0, len(WHOLE)), st.integers(0, 40), TEXTS)
@FUZZED
def test_damaged_recipes(tmp_path: Path, start: int, length: int, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes((WHOLE[:start] + text + WHOLE[start + length :]).encode("utf-8", "surrogatepass"))
    is_value_or_one_line(lambda: load_config(path))


@given(TREES)
@FUZZED
def test_any_tree_as_recipe(tree: Any) -> None:
    given_tree = tree if isinstance(tree, dict) else {"units": tree}
    is_value_or_one_line(lambda: validate(given_tree, "recipe"))


@given(st.sampled_from(KEYS), TREES)
@FUZZED
def test_any_value_at_a_place(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(WHOLE)
    is_value_or_one_line(lambda: load_config(path, {key: value}))
    is_value_or_one_line(lambda: validate({**yaml.safe_load(WHOLE), key: value}, "recipe"))


@given(TEXTS)
@example("params<=1e999999999")
@FUZZED
def test_any_text_as_limit(text: str) -> None:
    is_value_or_one_line(lambda: Limit.parse(text).bound({"params": 10}, 10))
    is_value_or_one_line(lambda: Limit.parse(f"params<={text}").bound({"params": 10}, 10))


@given(TEXTS)
@FUZZED
def test_any_text_as_rule(text: str) -> None:
    for kind in ("", "min:", "max-under:", "max-under:params=", "weights:", "weights:kl="):
        is_value_or_one_line(lambda kind=kind: picked(kind + text))


@given(TEXTS)
@FUZZED
def test_any_text_as_assignment(text: str) -> None:
    is_value_or_one_line(lambda: parse_assignment(text))
    is_value_or_one_line(lambda: parse_assignment(f"a.b={text}"))
