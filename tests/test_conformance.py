"""The shipped checks refuse parts that break what searches rely on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from sparsesearch import testing
from sparsesearch.allocation import allocation
from sparsesearch.config import ExecutorConfig, RunConfig
from sparsesearch.engine.workers.executor import LocalExecutor
from sparsesearch.evaluation import Targets, quality
from sparsesearch.pruning import expert_order, pruner
from sparsesearch.searchers import Proposal, Searcher
from sparsesearch.space import Genome
from sparsesearch.testing.registries import REGISTRIES, restored_registries


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with restored_registries():
        yield


def test_every_kind_of_part_has_a_check() -> None:
    assert len(REGISTRIES) == 11
    checks = {kind.partition(" of ")[0] for kind in REGISTRIES} - {"order"} | {"expert_order", "executor"}
    assert {f"check_{kind}" for kind in checks} == set(testing.__all__)


class Walker(Searcher):
    """Random genomes, some of them outside of the limits."""

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index == 0:
            return [Proposal(genome, 8, 0, name) for name, genome in self.starting(2).items()]
        return [Proposal(self.step(rng), 8, 0, "step") for _ in range(4)]

    def step(self, rng: np.random.Generator) -> Genome:
        return Genome.of(rng.integers(5, self.space.max_levels + 1))


class Outside(Walker):
    def step(self, rng: np.random.Generator) -> Genome:
        return Genome.of(rng.integers(0, self.space.max_levels + 1))


class Unseeded(Walker):
    def step(self, rng: np.random.Generator) -> Genome:
        return Genome.of(random.randint(5, 9) for _ in self.space.units)


class Impatient(Walker):
    waits = False


class Orphan(Walker):
    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        proposals = super().generation(index, rng)
        return [Proposal(p.genome, 8, 0, p.origin, parents=(self.step(rng),)) if index else p for p in proposals]


class Sparse(Walker):
    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        return [Proposal(self.step(rng), 8, 0, "step")]


def test_a_searcher_that_keeps_to_everything_passes() -> None:
    testing.check_searcher(Walker)


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Outside, "outside of the limits"),
        (Unseeded, "a seed decides the search"),
        (Impatient, "an answer of the generation is missing|asked for once"),
        (Orphan, "were measured before"),
        (Sparse, "generation 0 holds the dense genome"),
    ],
)
def test_searchers(cls: type[Searcher], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        testing.check_searcher(cls)


def test_a_pruner_that_does_not_say_that_it_reads_gradients() -> None:
    @pruner("mine", "width")
    def mine(group: Any, options: Any) -> torch.Tensor:
        gradients = [w.gradient_square for w in group.writers if w.gradient_square is not None]
        return torch.stack([g.sum(dim=(1, 2)) for g in gradients] or [torch.arange(group.elements).float()]).sum(0)

    with pytest.raises(AssertionError, match="needs_gradients=True"):
        testing.check_pruner("mine", "width")


def test_a_pruner_of_weights_that_spoils_them() -> None:
    @pruner("mine", "sparsity", scores=False)
    def mine(layer: Any, kept: Any, options: Any) -> torch.Tensor:
        layer.weight_OI.zero_()
        return torch.zeros(len(kept), *layer.weight_OI.shape)

    with pytest.raises(AssertionError, match="dense weights stay"):
        testing.check_pruner("mine", "sparsity")


def test_an_order_of_experts_that_is_another_one_each_time() -> None:
    expert_order("mine")(lambda experts: torch.randperm(len(experts.tokens)))
    with pytest.raises(AssertionError, match="same order again"):
        testing.check_expert_order("mine")


@pytest.mark.parametrize(
    ("rule", "needs", "words"),
    [
        (lambda evidence, sparsity, _: np.full(len(evidence.names), 1 - sparsity / 2), (), "meet it to within one"),
        (lambda evidence, sparsity, _: np.full(len(evidence.names), 1 - sparsity), ("cosines",), "not read"),
    ],
)
def test_allocations(rule: Any, needs: tuple[str, ...], words: str) -> None:
    allocation("mine", needs)(rule)
    with pytest.raises(AssertionError, match=words):
        testing.check_allocation("mine")


class Mean(Targets):
    """The mean output."""

    tasks: ClassVar[tuple[str, ...]] = ("causal",)

    def losses(self, outputs: torch.Tensor, rows: Any) -> torch.Tensor:
        return outputs.mean(dim=(1, 2))


class Batch(Mean):
    def losses(self, outputs: torch.Tensor, rows: Any) -> torch.Tensor:
        return outputs.double().mean().expand(len(outputs))


@pytest.mark.parametrize(("cls", "words"), [(Mean, "float64"), (Batch, "which others are asked for")])
def test_qualities(cls: type[Targets], words: str, tmp_path: Path) -> None:
    quality("mine")(cls)
    with pytest.raises(AssertionError, match=words):
        testing.check_quality("mine", tmp_path)


def test_an_executor_whose_results_come_as_they_like(tmp_path: Path) -> None:
    class Reversed(LocalExecutor):
        def map(self, method: Any, calls: Any, **options: Any) -> Iterator[Any]:
            return reversed(list(super().map(method, calls, **options)))

    config = RunConfig.model_construct(executor=ExecutorConfig())
    setup: Any = SimpleNamespace(run=str(tmp_path), config=config)
    with pytest.raises(AssertionError, match="order of the calls"):
        testing.check_executor(lambda worker: Reversed(setup, worker))
