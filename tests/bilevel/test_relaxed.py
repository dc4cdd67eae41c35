"""The relaxed network: what is closed is cut, what is open is dense; expected costs of one-hot chances are counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import NETWORKS, make
from support import Built, First, relaxed_of, synthetic_space

from sparsesearch.bilevel.expected import ExpectedCost, interpolate_levels
from sparsesearch.bilevel.levels import element_ranks
from sparsesearch.bilevel.methods.tas import pooling_matrix
from sparsesearch.bilevel.relaxed import RelaxedNetwork
from sparsesearch.config import RunConfig, TrainingConfig, UnitConfig
from sparsesearch.models.space_builder import build_space
from sparsesearch.models.tracing.trace import describe_module
from sparsesearch.space import Genome, Unit
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.training.weights import Weights

Make = Callable[[str], Path]
FAMILIES = ["llama", "llama-biased", "gpt2", "opt", "phi3", "bert", "t5", "vit", "qwen3_moe"]


def outputs(built: Built, relaxed: RelaxedNetwork, openings: dict[str, torch.Tensor]) -> torch.Tensor:
    samples = built.launch.samples["calibration"].rows(slice(0, 2))
    network = relaxed.with_tensors(relaxed.tensors(openings))
    return built.launch.network.task.call(network, samples.inputs(relaxed.weights.model))


def opening(built: Built, relaxed: RelaxedNetwork, unit: Unit, level: int) -> torch.Tensor:
    """What the store keeps at a level, as an opening."""
    files, shape = built.store.files, relaxed.shape(unit)
    if unit.is_drop:
        return torch.tensor(1.0 - level)
    if unit.kind == "sparsity":
        return (files.sparse(unit, level, shape) != 0).float()
    return (element_ranks(files, unit, shape, torch.device("cpu")) < unit.levels[level]).float()


@pytest.mark.parametrize("family", FAMILIES)
def test_closed_is_cut(family: str, family_dir: Make, tmp_path: Path) -> None:
    """Closing what a level takes away computes what the network cut there does; the pruner keeps values."""
    pruners = {"sparsity": "magnitude", "width": "magnitude"}
    built = Built(family_dir(family), tmp_path, pruners=pruners)
    relaxed = relaxed_of(built)
    kinds = set()
    for position, unit in enumerate(built.space.units):
        # A closed expert is still chosen by the router.
        if unit.kind in kinds or unit.kind == "experts":
            continue
        kinds.add(unit.kind)
        level = len(unit.levels) - 1
        levels = np.zeros(len(built.space.units), dtype=np.int16)
        levels[position] = level
        cut = built.supernet("sliced").materialise(Genome.of(levels))
        samples = built.launch.samples["calibration"].rows(slice(0, 2))
        with torch.no_grad():
            expected = built.launch.network.task.call(cut, samples.inputs(cut))
            actual = outputs(built, relaxed, {unit.name: opening(built, relaxed, unit, level)})
        torch.testing.assert_close(actual, expected, atol=2e-4, rtol=2e-3)
    assert "ffn_width" in kinds or "expert_width" in kinds


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("moves", ["frozen", "lora", "full"])
def test_open_is_dense(family: str, moves: str, family_dir: Make, tmp_path: Path) -> None:
    built = Built(family_dir(family), tmp_path)
    relaxed = relaxed_of(built, moves)
    openings = {unit.name: torch.ones(relaxed.shape(unit)) for unit in built.space.units}
    samples = built.launch.samples["calibration"].rows(slice(0, 2))
    dense = built.supernet("sliced").model
    with torch.no_grad():
        expected = built.launch.network.task.call(dense, samples.inputs(dense))
        torch.testing.assert_close(outputs(built, relaxed, openings), expected, atol=1e-5, rtol=1e-5)
    assert bool(relaxed.weights.parameters) == (moves != "frozen")


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_closed_channels_are_cut(name: str) -> None:
    """In traced networks, residual sums, depthwise, grouped and joined convolutions among them."""
    model, x = make(name), torch.randn(4, 3, 16, 16)
    network = describe_module(model, [x[:1]])
    units = [UnitConfig(kind="channels", levels=2, min_kept=0.5)]
    space = build_space(RunConfig(units=units, objectives=["kl", "macs"]), network, 4)
    relaxed = RelaxedNetwork(network, space, Weights(make(name), network, "frozen", TrainingConfig()))
    files: Any = First(model, network)
    supernet = StitchedSupernet(model, network, space, files)
    for position, unit in enumerate(space.units):
        levels = np.zeros(len(space.units), dtype=np.int16)
        levels[position] = 1
        mask = torch.zeros(relaxed.shape(unit))
        mask[:, : unit.levels[1]] = 1
        with torch.no_grad():
            actual = relaxed.with_tensors(relaxed.tensors({unit.name: mask}))(x)
            expected = supernet.materialise(Genome.of(levels))(x)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


@given(st.integers(0, 30), st.integers(0, 1000))
def test_one_hot_chances_cost_what_is_counted(seed: int, draw: int) -> None:
    space = synthetic_space(seed)
    levels = np.random.default_rng(draw).integers(0, space.max_levels + 1)
    chances = {
        u.name: torch.nn.functional.one_hot(torch.tensor(level), len(u.levels)).double()
        for u, level in zip(space.units, levels.tolist(), strict=True)
    }
    counted = space.costs.named(levels)
    for cost in space.costs.names:
        if space.dense_costs[cost]:
            share = float(ExpectedCost(space, cost)(chances))
            assert share * space.dense_costs[cost] == pytest.approx(counted[cost], abs=1e-6)


def test_expected_cost_is_the_mean_of_counted_costs() -> None:
    """Of genomes drawn unit by unit: all of them, weighted by their chance."""
    space = synthetic_space(3, blocks=1)
    generator = torch.Generator().manual_seed(0)
    chances = {u.name: torch.softmax(torch.randn(len(u.levels), generator=generator).double(), 0) for u in space.units}
    mean = 0.0
    for levels in itertools.product(*(range(len(u.levels)) for u in space.units)):
        weight = float(torch.stack([chances[u.name][i] for u, i in zip(space.units, levels, strict=True)]).prod())
        mean += weight * space.costs.named(levels)["params"]
    assert float(ExpectedCost(space, "params")(chances)) * space.dense_costs["params"] == pytest.approx(mean)


@given(st.floats(-3, 12, allow_nan=False))
def test_chances_around_a_count_have_it_as_mean(kept: float) -> None:
    unit = Unit("m", "ffn_width", 0, 8, (8, 5, 4, 1))
    chances = interpolate_levels(unit, torch.tensor(kept, requires_grad=True))
    mean = float((chances * torch.tensor(unit.levels)).sum())
    assert mean == pytest.approx(min(max(kept, 1), 8))
    assert float(chances.sum()) == pytest.approx(1)
    assert bool((chances >= 0).all())


def test_pooling_is_the_mask_where_widths_agree_and_keeps_means() -> None:
    assert torch.equal(pooling_matrix(6, 4, 4, torch.device("cpu")), torch.diag(torch.tensor([1.0, 1, 1, 1, 0, 0])))
    assert torch.allclose(pooling_matrix(6, 2, 4, torch.device("cpu")).sum(1), torch.tensor([1.0, 1, 1, 1, 0, 0]))
