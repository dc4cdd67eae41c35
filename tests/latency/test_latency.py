"""Latency and memory: a table and its composition, sized copies that are the cut network, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import NETWORKS, make
from support import FAMILIES, First, kinds_of, launched, run_search

from sparsesearch.config import LatencyConfig, RunConfig, UnitConfig
from sparsesearch.data import Samples
from sparsesearch.engine import controller
from sparsesearch.engine.launch.latency_table import measure_now
from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import InputError
from sparsesearch.export.measuring.finalists import measure_finalists
from sparsesearch.files import read_json
from sparsesearch.latency import LatencyTable, Setting, measure_table, setting_of, timing, with_latency
from sparsesearch.latency.pieces import copy_module, pieces_of, request_inputs, run_request, signature
from sparsesearch.latency.timing import peak_bytes
from sparsesearch.models.load import load_model
from sparsesearch.models.space_builder import build_space
from sparsesearch.models.tracing.trace import describe_module
from sparsesearch.runs.progress import Reporter
from sparsesearch.space import Genome, Limit, Space
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.elastic import ElasticSupernet

Make = Callable[[str], Path]
QUIET = Reporter(quiet=True)
TIMED = {"objectives": ["kl", "latency_ns"], "latency": {"prompt": 8}}


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "SAMPLE_NS", 1)


def table_for(directory: Path, **latency: Any) -> tuple[LatencyTable, Space, Any]:
    """Of all unit kinds of a model, its space without latency, and the launch."""
    launch = launched(directory, units=kinds_of(directory), latency=latency)
    table = measure_now(
        launch.config, launch.source, launch.network, launch.space, launch.samples["calibration"], QUIET
    )
    return table, launch.space, launch


@pytest.mark.parametrize("family", ["llama", "qwen3_moe", "gpt2", "opt", "bert", "t5", "vit", "swin"])
def test_both_ends_of_a_space_are_what_was_measured(family: str, family_dir: Make) -> None:
    table, space, launch = table_for(family_dir(family))
    timed = with_latency(space, launch.config.context, table)
    rounding = len(table.pieces)
    assert timed.dense_costs["latency_ns"] == table.dense_ns
    if table.smallest_ns < table.dense_ns:  # two rounds on a busy machine may say otherwise
        assert abs(timed.costs.named(timed.smallest.levels)["latency_ns"] - table.smallest_ns) <= rounding
    # Everything else costs what it did, and sparsity takes no time.
    for name, cost in space.dense_costs.items():
        assert timed.dense_costs[name] == cost
    sparse = Genome.of(np.where(space.kinds == "sparsity", space.max_levels, 0))
    assert timed.costs.named(sparse.levels)["latency_ns"] == table.dense_ns
    assert Space.from_json(json.loads(json.dumps(timed.to_json()))) == timed


def synthetic(space: Space, directory: Path) -> LatencyTable:
    """Ten for every element kept of each unit, a thousand for each sublayer, and as much again around them."""
    table, _, _ = table_for(directory)
    pieces = []
    for piece in table.pieces:
        ns = [
            1000 + 10 * sum(levels)
            for levels in np.stack(np.meshgrid(*piece.levels, indexing="ij"), -1).reshape(-1, len(piece.units))
        ]
        pieces.append(replace(piece, ns=tuple(map(int, ns)) if piece.units else (1000,)))
    whole = sum(piece.ns[0] for piece in pieces)
    left = sum(piece.ns[-1] for piece in pieces if piece.drop is None)
    return replace(table, pieces=tuple(pieces), dense_ns=2 * whole, smallest_ns=whole + left)


@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_a_candidate_takes_the_sum_of_its_pieces(family: str, family_dir: Make) -> None:
    directory = family_dir(family)
    _, space, launch = table_for(directory)
    table = synthetic(space, directory)
    timed = with_latency(space, launch.config.context, table)
    position = {unit.name: i for i, unit in enumerate(space.units)}
    rng = np.random.default_rng(0)
    for _ in range(20):
        levels = rng.integers(0, space.max_levels + 1)
        expected = table.dense_ns // 2
        for piece in table.pieces:
            if piece.drop is None or not levels[position[piece.drop]]:
                kept = [space.units[position[u]].levels[levels[position[u]]] for u in piece.units]
                expected += 1000 + 10 * sum(kept)
        assert timed.costs.named(levels)["latency_ns"] == expected


def test_memory_is_weights_cache_and_activations(family_dir: Make) -> None:
    table, space, launch = table_for(family_dir("llama"), batch=2, prompt=6, generated=2)
    timed = with_latency(space, launch.config.context, table)
    genome = timed.smallest.levels
    costs = timed.costs.named(genome)
    # The tiny model is float32; its cache costs are for `context` tokens of one sequence.
    cache = costs["kv_bytes"] // launch.config.context * 2 * 8
    assert costs["memory_bytes"] == costs["params"] * 4 + cache + table.activation_bytes
    half = replace(table, setting=replace(table.setting, dtype="float16"))
    assert with_latency(space, launch.config.context, half).costs.named(genome)["memory_bytes"] == (
        costs["params"] * 2 + cache // 2 + table.activation_bytes
    )


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "opt", "bert", "qwen3_moe", "vit", "swin"])
def test_what_is_timed_is_the_cut_network(family: str, family_dir: Make) -> None:
    directory = family_dir(family)
    launch = launched(directory, units=[u for u in kinds_of(directory) if u["kind"] != "sparsity"])
    model, network, space = load_model(directory, torch.float32), launch.network, launch.space
    files: Any = First(model, network)
    stitched = StitchedSupernet(load_model(directory, torch.float32), network, space, files)
    inputs = launch.samples["calibration"].rows(slice(0, 2)).inputs(model)
    rng = np.random.default_rng(1)
    with torch.no_grad():
        before = network.task.call(model, inputs)
        for genome in (space.smallest, Genome.of(rng.integers(0, space.max_levels + 1))):
            copied = copy_module(model, "", ElasticSupernet(model, network, space), genome)
            expected = stitched.materialise(genome)
            assert {n: p.shape for n, p in copied.named_parameters()} == {
                n: p.shape for n, p in expected.named_parameters()
            }
            torch.testing.assert_close(
                network.task.call(copied, inputs), network.task.call(expected, inputs), atol=2e-4, rtol=2e-3
            )
        assert torch.equal(network.task.call(model, inputs), before)


def test_sublayers_that_are_only_dropped_are_timed_apart(family_dir: Make) -> None:
    """They have no levels to tell them by, and lie in one block."""
    launch = launched(family_dir("llama"), units=[{"kind": "drop_attention"}, {"kind": "drop_ffn"}])
    model = load_model(family_dir("llama"), torch.float32)
    pieces = pieces_of(launch.network, launch.space, model)
    kinds: dict[str, set[str]] = {}
    for piece in pieces:
        assert piece.drop is not None
        kinds.setdefault(signature(model, piece, launch.space), set()).add(launch.space.units[piece.drop].kind)
    assert sorted(kinds.values(), key=sorted) == [{"drop_attention"}, {"drop_ffn"}]


def test_every_unit_that_narrows_is_in_one_piece(family_dir: Make) -> None:
    for family in FAMILIES:
        launch = launched(family_dir(family), units=kinds_of(family_dir(family)))
        space = launch.space
        pieces = pieces_of(launch.network, space, load_model(family_dir(family), torch.float32))
        held = sorted([*(i for p in pieces for i in p.units), *(p.drop for p in pieces if p.drop is not None)])
        assert held == [i for i, unit in enumerate(space.units) if unit.is_cut or unit.is_drop]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_traced_networks_are_timed_layer_by_layer(name: str) -> None:
    model, x = make(name), torch.randn(4, 3, 16, 16)
    network = describe_module(model, [x[:1]])
    units = [UnitConfig(kind="channels", levels=2, min_kept=0.5)]
    if name == "kernels":
        units.append(UnitConfig(kind="kernel", levels=2))
    space = build_space(RunConfig(units=units, objectives=["kl", "macs"]), network, 4)
    setting = setting_of(LatencyConfig(batch=2), network, torch.float32)
    table = measure_table(model, network, space, Samples({"0": x.numpy()}), setting, lambda _: None)
    assert {u for piece in table.pieces for u in piece.units} == {unit.name for unit in space.units}
    assert with_latency(space, 1, table).dense_costs["latency_ns"] == table.dense_ns


def test_generating_asks_for_a_token_at_a_time(family_dir: Make) -> None:
    launch = launched(family_dir("llama"))
    model = load_model(family_dir("llama"), torch.float32)
    setting = setting_of(LatencyConfig(batch=3, prompt=5, generated=2), launch.network, torch.float32)
    inputs = request_inputs(launch.samples["calibration"], launch.network.task, setting, model)
    shapes: list[tuple[int, ...]] = []
    model.model.layers[0].register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape[:2])))
    with torch.no_grad():
        run_request(model, launch.network.task, inputs, setting.generated)
    assert shapes == [(3, 5), (3, 1), (3, 1)]


def test_peak_memory_counts_what_is_alive_at_once() -> None:
    x = torch.zeros(1000)

    def chain() -> None:
        y = x + 1  # 4,000 bytes
        z = y * 2  # 8,000 in all
        del y
        w = z[:10] + z.view(1000)[:10]  # views cost nothing: 8,000 - 4,000 + 40
        w.add_(1)

    assert peak_bytes(chain, "cpu") == 8000


def test_a_run_with_latency_resumes_verifies_and_lends_its_table(family_dir: Make, tmp_path: Path) -> None:
    directory = family_dir("llama")
    changes: dict[str, Any] = {**TIMED, "units": [{"kind": "ffn_width", "levels": 2}, {"kind": "drop_attention"}]}
    results = run_search(tmp_path / "run", directory, **changes)
    assert results.dense is not None
    table = LatencyTable.read(tmp_path / "run" / "latency.json")
    assert results.dense.costs["latency_ns"] == table.dense_ns
    again = controller.resume(tmp_path / "run", {"search.evals": 15}, QUIET)  # by the table of the run
    assert again.dense is not None
    assert again.dense.costs == results.dense.costs
    measured = measure_finalists(open_run(again), QUIET)
    assert measured == read_json(tmp_path / "run" / "latency_measured.json")
    assert {"setting", "dense", *(e.genome.id for e in again.front)} <= set(measured)
    assert measured["dense"]["predicted_ns"] == table.dense_ns
    assert measured["dense"]["measured_bytes"] > results.space.dense_costs["bytes"]
    path = tmp_path / "lent.json"
    table.write(path)
    lent = launched(directory, **{**changes, "latency": {"table": str(path)}})
    assert lent.space.dense_costs["latency_ns"] == table.dense_ns
    limited = launched(directory, **changes, limits=["latency_ms<=95%"])
    assert limited.space.bounds[0].cost == "latency_ns"


def test_limits_are_written_in_milliseconds() -> None:
    limit = Limit.parse("latency_ms<=4.5")
    assert limit.bound({"latency_ns": 0}, 0).maximum == 4_500_000
    with pytest.raises(InputError, match=r"SS102 .*latency_ns was not measured here"):
        limit.bound({"params": 1}, 0)


@pytest.mark.parametrize(
    ("latency", "code", "words"),
    [
        ({"device": "cuda:9"}, "SS123", "not on this machine, which has cpu"),
        ({"device": "gpu"}, "SS123", "give it as latency.table"),
        ({"prompt": 4000}, "SS124", "exceed the model's"),
        ({"table": "nowhere.json"}, "SS121", "No such file"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(
    latency: dict[str, Any], code: str, words: str, family_dir: Make
) -> None:
    with pytest.raises(InputError) as caught:
        launched(family_dir("llama"), objectives=["kl", "latency_ns"], latency=latency)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_table_of_something_else_is_refused_unless_asked(family_dir: Make, tmp_path: Path) -> None:
    units = [{"kind": "ffn_width", "levels": 2}]
    path = tmp_path / "table.json"
    launch = launched(family_dir("llama"), units=units, latency={"batch": 2, "prompt": 8})
    table = measure_now(
        launch.config, launch.source, launch.network, launch.space, launch.samples["calibration"], QUIET
    )
    pieces = tuple(replace(piece, ns=(3, 2, 1)) for piece in table.pieces)  # whatever a busy machine made of it
    replace(table, pieces=pieces, dense_ns=2000, smallest_ns=1000).write(path)

    def opened(units: list[Any] = units, **latency: Any) -> Any:
        return launched(
            family_dir("llama"), units=units, objectives=["kl", "latency_ns"], latency={"table": str(path), **latency}
        )

    assert opened(batch=2).latency.setting.batch == 2
    for name, value in {"batch": 1, "device": "cuda", "dtype": "bfloat16", "prompt": 9}.items():
        with pytest.raises(InputError, match=rf"SS122 latency.{name} is {value}; .* was measured with"):
            opened(**{name: value})
        assert opened(**{name: value}, any_setting=True).latency.setting.batch == 2
    with pytest.raises(InputError, match=r"SS121 .* measured for other units: model.layers.0.mlp.ffn_width"):
        opened([{"kind": "ffn_width", "levels": 3}])
    path.write_text("{}")
    with pytest.raises(InputError, match=r"SS121 .* is not a latency table"):
        opened()


def test_only_what_generates_generates(family_dir: Make) -> None:
    with pytest.raises(InputError, match=r"SS124 .*generates nothing"):
        launched(family_dir("bert"), objectives=["kl", "latency_ns"], latency={"generated": 2})


def test_a_setting_says_what_was_asked(family_dir: Make) -> None:
    network = launched(family_dir("llama")).network
    setting = setting_of(LatencyConfig(), network, torch.bfloat16)
    assert (setting.device, setting.batch, setting.generated, setting.dtype, setting.threads) == (
        "cpu",
        1,
        0,
        "bfloat16",
        1,
    )
    assert setting.prompt == min(128, network.max_length)
    assert isinstance(setting, Setting)
    assert setting.hardware
