"""One plug-in registers a part of every kind; recipes and verbs find each by its name, and the checks pass it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import recipe, run_search
from transformers import Starcoder2Config, Starcoder2ForCausalLM
from typer.testing import CliRunner

from sparsesearch import testing
from sparsesearch.cli import app
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import InputError
from sparsesearch.export import export
from sparsesearch.models import describe
from sparsesearch.plugins import load_plugins
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.testing.registries import REGISTRIES, restored_registries
from sparsesearch.tracking import follow, open_tracker

Make = Callable[[str], Path]
PLUGIN = Path(__file__).with_name("plugin_of_every_kind.py")
MODULE = f"sparsesearch_plugin_{PLUGIN.stem}"
PLUGINS: dict[str, Any] = {"plugins": [str(PLUGIN)]}


@pytest.fixture(autouse=True)
def called() -> Iterator[set[str]]:
    """The kinds of parts of the plug-in that were called."""
    with restored_registries():
        load_plugins([str(PLUGIN)])
        yield sys.modules[MODULE].CALLED
    del sys.modules[MODULE]


def verb(*arguments: Any) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments)], standalone_mode=False)
    assert done.exception is None, done.exception
    return done


def test_it_registers_one_of_every_kind() -> None:
    for kind, registry in REGISTRIES.items():
        assert "starcoder2" in registry if kind == "family" else "mine" in registry


@pytest.mark.usefixtures("quick_exports")
def test_a_search_and_what_is_made_of_it(family_dir: Make, tmp_path: Path, called: set[str]) -> None:
    results = run_search(
        tmp_path / "run",
        family_dir("qwen3_moe"),
        **PLUGINS,
        units=[{"kind": "sparsity", "levels": 3}, {"kind": "experts"}, {"kind": "expert_width", "levels": 2}],
        objectives=["mine", "nonzeros"],
        pruners={"sparsity": "mine", "width": "mine", "experts": "mine"},
        search={"searcher": "mine", "seeds": ["mine"], "evals": 20},
    )
    parts = {"searcher", "pruner of weights", "pruner of elements", "order of experts", "allocation", "quality"}
    assert called == parts
    assert any(e.origin.startswith("mine@") for e in results.evaluations)
    assert results.dense is not None and results.dense.quality < 1e-9

    dense = Evaluation(results.space.dense, 1, 0, "dense", "ok", 0.0, results.space.dense_costs)
    assert export(open_run(results, TRUSTED), dense, tmp_path / "out", "mine")["form"] == "mine"
    with pytest.raises(InputError, match=r"SS502 it is not dense\. Forms it can take: "):
        export(open_run(results, TRUSTED), results.pick("smallest"), tmp_path / "smallest", "mine")
    tracker = open_tracker("mine", RunResults(tmp_path / "run"))
    assert follow(tmp_path / "run", tracker, watch=False) > 0
    assert called == {*parts, "form", "tracker"}


def test_an_allocation_as_a_searcher(tmp_path: Path, called: set[str]) -> None:
    search = {"searcher": "allocation:mine", "evals": 10}
    units = [{"kind": "sparsity", "levels": 3}]
    results = run_search(tmp_path / "run", "demo", **PLUGINS, units=units, search=search, limits=["nonzeros<=80%"])
    assert "mine" in {e.origin for e in results.evaluations}
    assert called == {"allocation"}


def test_a_learner(tmp_path: Path, called: set[str]) -> None:
    options = {"sizes": ["params<=95%"], "tokens": 128}
    search = {"searcher": "learned-mine", "final": 2, "options": options}
    units = [{"kind": "ffn_width", "levels": 6}]
    training = {"batch": 2}
    results = run_search(tmp_path / "run", "demo", **PLUGINS, units=units, search=search, training=training)
    (evaluation,) = [e for e in results.evaluations if e.origin == "learned params<=95%"]
    assert evaluation.costs["params"] <= 0.95 * results.space.dense_costs["params"]
    assert called == {"learner"}


def test_a_proxy(tmp_path: Path, called: set[str]) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(recipe("demo", **PLUGINS)))
    arguments = ["--proxies", "mine", "--samples", 4, "--results", tmp_path, "--json"]
    assert "mine" in json.loads(verb("audit", space, *arguments).stdout)["proxies"]
    assert called == {"proxy"}


def test_a_family(called: set[str]) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 32}
    config = Starcoder2Config(**sizes, num_attention_heads=2, num_key_value_heads=1)
    assert describe(Starcoder2ForCausalLM(config)).blocks == ("model.layers.0",)
    assert called == {"family"}


def test_the_list_shows_them() -> None:
    for listing in ("searchers", "pruners", "allocations", "proxies", "forms"):
        assert any("mine" in name for name in json.loads(verb("list", listing, "--json").stdout))
    assert json.loads(verb("list", "families", "--json").stdout)["starcoder2"] == "Nothing of it is searched."


def test_the_checks_pass_them(small_run: RunResults, tmp_path: Path) -> None:
    testing.check_searcher("mine", evals=10)
    testing.check_searcher("learned-mine")
    testing.check_pruner("mine", "sparsity")
    testing.check_pruner("mine", "width")
    testing.check_expert_order("mine")
    testing.check_allocation("mine")
    testing.check_proxy("mine", tmp_path / "proxy")
    testing.check_learner("learned-mine", tmp_path / "learner")
    testing.check_quality("mine", tmp_path / "quality")
    testing.check_tracker("mine", small_run)
