"""README keeps its promises: commands, recipe and names in it are real."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import launched, run_search
from transformers import Starcoder2Config, Starcoder2ForCausalLM
from typer.main import get_command

from sparsesearch.cli import app
from sparsesearch.config import validate
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.errors import InputError
from sparsesearch.export import FORMS, export
from sparsesearch.models import FAMILIES, load_tokenizer
from sparsesearch.models.load import DEMO
from sparsesearch.plugins import load_plugins
from sparsesearch.pruning import EXPERTS, STRUCTURED, UNSTRUCTURED
from sparsesearch.searchers.registry import SEARCHERS
from sparsesearch.testing import check_family, check_pruner, check_searcher
from sparsesearch.testing.proxies import check_proxy
from sparsesearch.testing.registries import restored_registries

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


@pytest.fixture
def registries() -> Iterator[None]:
    """As they were, whatever a snippet registers."""
    with restored_registries():
        yield


@pytest.mark.usefixtures("registries")
def test_the_proxy_shown_passes_conformance(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(from sparsesearch.proxies.*?)```", README, re.DOTALL)
    exec(code, {"__name__": "mine"})
    check_proxy("zeroed", tmp_path)


def plugin(tmp_path: Path, start: str) -> str:
    """The snippet of the README that starts like this, as a file of the user's own."""
    (code,) = re.findall(rf"```python\n({re.escape(start)}.*?)```", README, re.DOTALL)
    path = tmp_path / "mine.py"
    path.write_text(code)
    return str(path)


SMALL = [{"kind": "ffn_width", "levels": 3}, {"kind": "kv_groups"}]


@pytest.mark.usefixtures("registries")
def test_the_searcher_shown_searches(tmp_path: Path) -> None:
    mine = plugin(tmp_path, "from sparsesearch.searchers import")
    search = {"searcher": "climber", "evals": 24}
    load_plugins([mine])
    check_searcher("climber")
    results = run_search(tmp_path / "run", "demo", units=SMALL, plugins=[mine], search=search, limits=["params<=80%"])
    assert {"child", "dense"} <= {e.origin for e in results.evaluations}
    assert results.front


@pytest.mark.usefixtures("registries")
def test_the_pruner_shown_prunes(tmp_path: Path) -> None:
    mine = plugin(tmp_path, "from sparsesearch.pruning import")
    load_plugins([mine])
    check_pruner("energy", "width")
    results = run_search(tmp_path / "run", "demo", units=SMALL, plugins=[mine], pruners={"width": "energy"})
    assert results.front


@pytest.mark.usefixtures("registries")
def test_the_family_shown_is_pruned_exported_and_reloaded(tmp_path: Path) -> None:
    mine = plugin(tmp_path, "from sparsesearch.models import")
    load_plugins([mine])  # the recipe that a test begins with asks what the model is for
    config = Starcoder2Config(
        vocab_size=2048,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    Starcoder2ForCausalLM(config).save_pretrained(tmp_path / "model")
    load_tokenizer(DEMO).save_pretrained(tmp_path / "model")
    check_family(tmp_path / "model", tmp_path / "work")
    units = [*SMALL, {"kind": "drop_attention"}, {"kind": "drop_ffn"}]
    results = run_search(tmp_path / "run", tmp_path / "model", units=units, plugins=[mine])
    report = export(results, results.pick("smallest"), tmp_path / "out", access=TRUSTED)
    assert report["max_abs_logit_diff"] < 1e-4


def test_a_plugin_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    for name in ("nowhere.py", "nothing_of_that_name", str(tmp_path / "broken.py")):
        with pytest.raises(InputError, match=r"SS125 plugins: .* cannot be imported"):
            launched("demo", plugins=[name])


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
