"""What a worker does for a learned search: sizes one after another, each ended by a genome and what was learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparsesearch.bilevel.alternation import Loop, Loss
from sparsesearch.bilevel.base import Decision, Size
from sparsesearch.bilevel.outcome import genome_of, learned_network
from sparsesearch.bilevel.reconstruction import BlockLoss
from sparsesearch.bilevel.registry import learner
from sparsesearch.bilevel.relaxed import Relaxed
from sparsesearch.config import TrainingConfig
from sparsesearch.data.samples import Samples
from sparsesearch.evaluation.batchnorm import batch_norms, reestimate
from sparsesearch.files import read_json, write_json
from sparsesearch.searchers.learned import LearnedSearcher
from sparsesearch.space import Genome, Space
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.stitched import state_of
from sparsesearch.tensors import write_tensors
from sparsesearch.training.objective import Objective
from sparsesearch.training.trainer import round_to_storage
from sparsesearch.training.weights import Weights

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Plan:
    """Sizes that are learned one after another, each from where the one before ended.

    Attributes:
        name: of its directory.
        sizes: limits of each beyond those of the space, by name.
        tokens: gradient tokens for each size.
    """

    name: str
    sizes: tuple[tuple[str, Space], ...]
    tokens: int
    seed: int

    def result_path(self, directory: Path, number: int) -> Path:
        return directory / self.name / f"{number}.json"

    def results(self, directory: Path) -> list[dict[str, Any]]:
        """What the sizes that are done ended with."""
        paths = (self.result_path(directory, number) for number in range(len(self.sizes)))
        hint = f"Delete {directory / self.name}, then resume: its sizes are learned again."
        return [read_json(path, hint) for path in paths if path.exists()]

    def weights_path(self, directory: Path, number: int) -> Path:
        return directory / self.name / f"{number}.safetensors"


@dataclass(frozen=True)
class Surroundings:
    """What a plan is learned on.

    Attributes:
        supernet: its store's levels serve methods that choose among them.
        samples: training data.
        statistics: samples that batch statistics of results are measured on.
        dense: what is distilled.
        compute, storage: types of the arithmetic, and of the weights that are written.
        losses: of a network on selection data.
    """

    supernet: StitchedSupernet
    samples: Samples
    statistics: Samples
    training: TrainingConfig
    batch: int
    pattern: str | None
    dense: Any
    compute: torch.dtype
    storage: torch.dtype
    losses: Callable[[Any], list[float]]


class Learning:
    """One plan on one worker, from where its files stand."""

    def __init__(self, plan: Plan, searcher: LearnedSearcher, around: Surroundings, directory: Path) -> None:
        self.plan, self.around, self.directory = plan, around, directory
        supernet, options = around.supernet, searcher.options
        self._files = supernet.composer.files
        model = supernet.materialise(supernet.space.dense).float()
        weights = Weights(model, supernet.network, options.weights, around.training)
        self.relaxed = Relaxed(supernet.network, supernet.space, weights)
        self.learner = learner(searcher.method, self.relaxed, self._files, options, plan.seed, pattern=around.pattern)
        sizes: list[Size] = []
        for name, space in plan.sizes:
            sizes.append(Size(name, space, sizes[-1] if sizes else None))
        self.loop = Loop(
            self.learner, self._loss(), around.samples, around.training, sizes, plan.tokens, plan.seed, around.compute
        )
        (directory / plan.name).mkdir(parents=True, exist_ok=True)
        self.loop.load(directory / plan.name / CHECKPOINT)

    def _loss(self) -> Loss:
        around, network = self.around, self.around.supernet.network
        if self.learner.local:
            return BlockLoss(network, self.relaxed, around.dense)
        objective = Objective(network, around.dense, around.training)
        return lambda tensors, samples: objective(self.relaxed.running(tensors), samples)

    @property
    def done(self) -> bool:
        return self.loop.size == len(self.loop.sizes)

    def go_on(self, seconds: float) -> None:
        """Learn for a while; a size that ends is decided, measured and written."""
        place = self.directory / self.plan.name / CHECKPOINT
        if self.done or not self.loop.go_on(place, seconds):
            return
        self._conclude()
        self.loop.next_size()
        if not self.done:
            self.loop.begin()
        self.loop.save(place)

    @property
    def told(self) -> str:
        """Where it is, in a few words."""
        return "" if self.done else f"{self.loop.sizes[self.loop.size].name}  loss {self.loop.last:.4g}"

    def _conclude(self) -> None:
        number, plan = self.loop.size, self.plan
        name, space = plan.sizes[number]
        path = plan.result_path(self.directory, number)
        if path.exists():  # written before the checkpoint that says so
            return
        with torch.no_grad():
            decision = self.learner.decide(self.loop.moment())
        genome = genome_of(space, decision)
        # The last steps of a size that could not go on are not paid for.
        found = {
            "size": name,
            "genome": genome.levels.tolist(),
            "tokens": self.loop.spent,
            "stopped": self.loop.stopped,
            "note": self.learner.note(),
        }
        if self.learner.carries:
            found["losses"] = self._write(decision, genome, plan.weights_path(self.directory, number))
        write_json(path, found)

    def _write(self, decision: Decision, genome: Genome, path: Path) -> list[float]:
        """Write the network as it will be stored, and measure it so."""
        around = self.around
        model = learned_network(self.relaxed, around.supernet.space, self._files, decision, genome)
        if batch_norms(model):
            reestimate(model, around.supernet.network.task, around.statistics, around.batch)
        state = {
            name: tensor.contiguous() for name, tensor in round_to_storage(state_of(model), around.storage).items()
        }
        with around.supernet.with_weights(genome, state):
            losses = around.losses(around.supernet.materialise(genome))
        write_tensors(path, state, durable=True)
        return losses


def plans_of(targets: Sequence[tuple[str, Space]], warm: bool, repeats: int, tokens: int, seed: int) -> list[Plan]:
    """Chains of sizes that can be learned side by side.

    Args:
        warm: whether each size goes on from the one before; else every size is a plan of its own.
    """
    chains = [tuple(targets)] if warm else [(target,) for target in targets]
    return [
        Plan(f"{number}-{index}", chain, tokens, seed + number)
        for number in range(repeats)
        for index, chain in enumerate(chains)
    ]
