"""Sorting changes nothing; a genome run by slices, by masks and materialised is one network; gradients land in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import NETWORKS, make
from support import FAMILIES, Built, First, kinds_of
from torch import nn

from sparsesearch.config import RunConfig, UnitConfig
from sparsesearch.errors import InputError
from sparsesearch.models.network import Network
from sparsesearch.models.space_builder import build_space
from sparsesearch.models.tracing.trace import describe_module
from sparsesearch.space import Genome, Space
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.elastic import ElasticSupernet
from sparsesearch.supernet.sorting import inverse_rankings, rankings, sort_elements, sort_exactly

Make = Callable[[str], Path]
TRACED = sorted(NETWORKS)


class Case:
    """A network with its space and some samples."""

    def __init__(self, network: Network, space: Space, model: Any, run: Callable[[Any], torch.Tensor]) -> None:
        self.network, self.space, self.model, self.run = network, space, model, run

    def outputs(self, model: Any) -> torch.Tensor:
        with torch.no_grad():
            return self.run(model)

    @property
    def stitched(self) -> StitchedSupernet:
        files: Any = First(self.model, self.network)
        return StitchedSupernet(self.model, self.network, self.space, files)

    def genomes(self, count: int = 4) -> list[Genome]:
        rng = np.random.default_rng(0)
        drawn = [Genome.of(rng.integers(0, self.space.max_levels + 1)) for _ in range(count)]
        return [self.space.dense, self.space.smallest, *drawn]


def of_family(directory: Path, work: Path) -> tuple[Case, dict[str, torch.Tensor]]:
    """With all units but sparsity, which has nothing to sort; and what a store's pruners rank."""
    kinds = [unit for unit in kinds_of(directory) if unit["kind"] != "sparsity"]
    built = Built(directory, work, units=kinds, pruners={"width": "magnitude"})
    network, samples = built.launch.network, built.launch.samples["calibration"].rows(slice(0, 2))
    model = built.supernet("sliced").model
    case = Case(network, built.space, model, lambda m: network.task.call(m, samples.inputs(model)))
    return case, rankings(network, built.space, built.store.files)


def traced(name: str) -> tuple[Case, dict[str, torch.Tensor]]:
    model, x = make(name), torch.randn(4, 3, 16, 16)
    network = describe_module(model, [x[:1]])
    units = [UnitConfig(kind="channels", levels=3, min_kept=0.4)]
    if name == "kernels":
        units.append(UnitConfig(kind="kernel", levels=2))
    space = build_space(RunConfig(units=units, objectives=["kl", "macs"]), network, 4)
    torch.manual_seed(1)
    ranked = {
        u.name: torch.stack([torch.randperm(u.total)] * network.cuts[u.name].orders)
        for u in space.units
        if u.kind != "kernel"  # rings have an order
    }
    return Case(network, space, model, lambda m: m(x)), ranked


@pytest.fixture(params=[*FAMILIES, *TRACED])
def case(request: pytest.FixtureRequest, family_dir: Make, tmp_path: Path) -> tuple[Case, dict[str, torch.Tensor]]:
    return traced(request.param) if request.param in TRACED else of_family(family_dir(request.param), tmp_path)


def test_sorting_changes_nothing_and_is_undone(case: tuple[Case, dict[str, torch.Tensor]]) -> None:
    here, ranked = case
    before = {n: t.clone() for n, t in here.model.state_dict().items()}
    expected = here.outputs(here.model)
    sort_exactly(here.model, here.network, ranked, lambda: here.outputs(here.model))
    torch.testing.assert_close(here.outputs(here.model), expected, atol=1e-4, rtol=1e-3)
    moved = [n for n, t in here.model.state_dict().items() if not torch.equal(t, before[n])]
    assert moved
    sort_elements(here.model, here.network, inverse_rankings(ranked))
    assert all(torch.equal(t, before[n]) for n, t in here.model.state_dict().items())


def test_slices_are_masks_are_the_network_cut(case: tuple[Case, dict[str, torch.Tensor]]) -> None:
    here, ranked = case
    sort_elements(here.model, here.network, ranked)
    before = {n: t.clone() for n, t in here.model.state_dict().items()}
    sizes = {
        a.module: vars(here.model.get_submodule(a.module)).copy()
        for c in here.network.cuts.values()
        for a in c.attributes
    }
    stitched = here.stitched
    for genome in here.genomes():
        expected = here.outputs(stitched.materialise(genome))
        for execution in ("sliced", "masked"):
            elastic = ElasticSupernet(here.model, here.network, here.space, execution=execution)  # type: ignore[arg-type]
            with elastic.running(genome) as running:
                torch.testing.assert_close(here.outputs(running), expected, atol=2e-4, rtol=2e-3)
    assert all(torch.equal(t, before[n]) for n, t in here.model.state_dict().items())
    for module, attributes in sizes.items():
        now = vars(here.model.get_submodule(module))
        assert all(now[name] == value for name, value in attributes.items() if isinstance(value, int))


@pytest.mark.parametrize("name", ["llama", "gpt2", "vit", "padded"])
@pytest.mark.parametrize("execution", ["sliced", "masked"])
def test_gradients_land_in_the_full_weights(name: str, execution: Any, family_dir: Make, tmp_path: Path) -> None:
    """They are those of the cut network, at the places that are left, and nothing elsewhere."""
    here, _ = traced(name) if name in TRACED else of_family(family_dir(name), tmp_path)
    genome = here.genomes(1)[-1]
    stitched = here.stitched
    cut = stitched.materialise(genome).requires_grad_(True)
    here.run(cut).square().mean().backward()
    gradients = {n: p.grad for n, p in cut.named_parameters() if p.grad is not None}
    here.model.requires_grad_(True)
    with ElasticSupernet(here.model, here.network, here.space, execution=execution).running(genome) as running:
        here.run(running).square().mean().backward()
    # A writer's rows that are masked at the reader get no gradient either: nothing reads what they write.
    for name_, parameter in here.model.named_parameters():
        grad = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        if name_ not in gradients:
            assert not grad.any(), name_
        elif name_ in stitched.composer.plans:
            padded = stitched.composer.pad_value(name_, genome, gradients[name_])
            torch.testing.assert_close(grad, padded, atol=2e-5, rtol=2e-3)
        else:
            torch.testing.assert_close(grad, gradients[name_], atol=2e-5, rtol=2e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "vit", "qwen3_moe"])
def test_a_block_alone_is_the_block_of_the_network_cut(name: str, family_dir: Make, tmp_path: Path) -> None:
    here, _ = of_family(family_dir(name), tmp_path)
    genome = here.space.smallest
    block = len(here.network.blocks) - 1
    levels = np.where(here.space.blocks == block, genome.levels, 0)
    cut = here.stitched.materialise(Genome.of(levels))
    calls: list[Any] = []
    hook = cut.get_submodule(here.network.blocks[block]).register_forward_hook(
        lambda _, args, kwargs, output: calls.append((args, kwargs, output)), with_kwargs=True
    )
    here.outputs(cut)
    hook.remove()
    args, kwargs, expected = calls[0]
    with torch.no_grad(), ElasticSupernet(here.model, here.network, here.space, block=block).running(genome) as running:
        output = running(*args, **kwargs)
    first = [result[0] if isinstance(result, tuple) else result for result in (output, expected)]
    torch.testing.assert_close(*first, atol=1e-4, rtol=1e-3)


class Ordered(nn.Module):
    """Where it is wanted, each channel adds to those behind it: no order but their own will do."""

    ordered = False

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.c1(x))
        x = torch.relu(self.c2(x.cumsum(1) if self.ordered else x))
        out: torch.Tensor = self.linear(x.mean((2, 3)))
        return out


def test_what_sorting_changes_is_refused() -> None:
    torch.manual_seed(0)
    model, x = Ordered().eval(), torch.randn(2, 3, 8, 8)
    network = describe_module(model, [x[:1]])
    model.ordered = True
    ranked = {name: torch.arange(cut.elements).flip(0)[None] for name, cut in network.cuts.items()}
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(InputError, match=r"SS218 .*c1\.channels changes the network's outputs"):
        sort_exactly(model, network, ranked, lambda: model(x).detach())
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
