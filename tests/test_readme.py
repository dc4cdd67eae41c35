"""README keeps its promises: commands, recipe and names in it are real."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from typer.main import get_command

from sparsesearch.cli import app
from sparsesearch.config import validate
from sparsesearch.export import FORMS
from sparsesearch.models import FAMILIES
from sparsesearch.proxies import PROXIES
from sparsesearch.pruning import EXPERTS, STRUCTURED, UNSTRUCTURED
from sparsesearch.searchers.registry import SEARCHERS
from sparsesearch.testing.proxies import check_proxy

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_ci_runs_exactly_the_readmes_test_command() -> None:
    command = next(line.strip() for line in README.splitlines() if line.strip().endswith(".venv/bin/pytest"))
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_recipe_shown_is_valid_and_complete() -> None:
    tree = yaml.safe_load(re.search(r"```yaml\n(.*?)```", README, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert validate(tree, "README").objectives == ["kl", "params"]


def test_the_recipe_of_training_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(training:.*?)```", README, re.DOTALL)
    config = validate({"units": [{"kind": "sparsity"}]} | yaml.safe_load(text), "README")
    assert [rung.candidates for rung in config.search.rungs] == [8, 2]


def test_the_proxy_shown_passes_conformance(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(from sparsesearch.proxies.*?)```", README, re.DOTALL)
    exec(code, {"__name__": "mine"})
    try:
        check_proxy("zeroed", tmp_path)
    finally:
        PROXIES.pop("zeroed", None)


def test_verbs_searchers_and_forms_named_exist() -> None:
    verbs = set(re.findall(r"^(?: {4})?sparsesearch ([a-z]+) ", README, re.MULTILINE))
    assert verbs
    assert verbs <= set(get_command(app).commands)  # type: ignore[attr-defined]
    searchers = {name if ":" not in name else f"{name.partition(':')[0]}:NAME" for name in SEARCHERS}
    rows = "\n".join(line for line in README.splitlines() if line.startswith("| `"))
    assert all(f"`{name}`" in rows for name in (*searchers, *FORMS))


def test_pruners_and_families_named_are_there() -> None:
    named = README.lower().replace(" ", "").replace("-", "")
    for name in (*UNSTRUCTURED, *STRUCTURED, *EXPERTS):
        alias = {"obs": "structuredobs", "easy_ep": "easyep", "frequency": "routingfrequency"}.get(name, name)
        assert alias in named, name
    for name in FAMILIES:
        alias = {"gemma3_text": "gemma2and3", "deepseek_v3": "deepseekv2andv3", "debertav2": "debertav2"}.get(name)
        stem = name.rstrip("0123456789").split("_")[0].split("-")[0]
        assert (alias or stem) in named, name


def test_top_level_holds_nothing_else() -> None:
    allowed = {"pyproject.toml", "README.md", "LICENSE", "sparsesearch", "search_spaces", "tests", "results"}
    tracked = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") and not p.name.endswith(".egg-info")}
    assert tracked - {"build"} <= allowed
