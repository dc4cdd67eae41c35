"""A worker's part of a learned search: learns sizes one after another; each ends with a genome and maybe weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparsesearch.bilevel.alternation import Alternation, Batches, Loss
from sparsesearch.bilevel.base import CostTarget, Decision
from sparsesearch.bilevel.outcome import genome_of, learned_network
from sparsesearch.bilevel.reconstruction import BlockLoss
from sparsesearch.bilevel.registry import create_learner
from sparsesearch.bilevel.relaxed import RelaxedNetwork
from sparsesearch.config import TrainingConfig
from sparsesearch.data.samples import Samples
from sparsesearch.evaluation.batchnorm import batch_norms, reestimate
from sparsesearch.files import read_json, write_json
from sparsesearch.searchers.learned.base import LearnedSearcher
from sparsesearch.space import Genome, Space
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.stitched import state_of
from sparsesearch.tensors import write_tensors
from sparsesearch.training.objective import Objective
from sparsesearch.training.trainer import round_to_storage
from sparsesearch.training.weights import Weights

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class SizeChain:
    """Sizes that are learned one after another, each starting where the one before ended.

    Attributes:
        name: name of its directory.
        sizes: (name, space with the limits of the size) of each size.
        tokens: gradient tokens for each size.
    """

    name: str
    sizes: tuple[tuple[str, Space], ...]
    tokens: int
    seed: int

    def result_path(self, directory: Path, number: int) -> Path:
        """Return the path of the result of a size."""
        return directory / self.name / f"{number}.json"

    def results(self, directory: Path) -> list[dict[str, Any]]:
        """Read the results of the sizes that are done."""
        paths = (self.result_path(directory, number) for number in range(len(self.sizes)))
        hint = f"Delete {directory / self.name}, then resume: its sizes are learned again."
        return [read_json(path, hint) for path in paths if path.exists()]

    def weights_path(self, directory: Path, number: int) -> Path:
        """Return the path of the weights of a size."""
        return directory / self.name / f"{number}.safetensors"


@dataclass(frozen=True)
class LearningContext:
    """The network, data and settings that sizes are learned with.

    Attributes:
        supernet: supernet on the level store; its levels serve methods that choose among these.
        samples: training data.
        norm_samples: samples on which batch statistics of results are measured.
        training: how weights are trained.
        batch: samples per minibatch when batch statistics are measured.
        pattern: N:M, for methods that choose among patterns.
        teacher: network that is distilled.
        compute, storage: data types of the arithmetic, and of the weights that are written.
        losses: returns the losses of a network on selection data.
    """

    supernet: StitchedSupernet
    samples: Samples
    norm_samples: Samples
    training: TrainingConfig
    batch: int
    pattern: str | None
    teacher: Any
    compute: torch.dtype
    storage: torch.dtype
    losses: Callable[[Any], list[float]]


class Learning:
    """Learns one chain of sizes on one worker, resumed from its files."""

    def __init__(self, chain: SizeChain, searcher: LearnedSearcher, context: LearningContext, directory: Path) -> None:
        self.chain, self.context, self.directory = chain, context, directory
        supernet, options, training = context.supernet, searcher.options, context.training
        self._files = supernet.composer.files
        model = supernet.materialise(supernet.space.dense).float()
        weights = Weights(model, supernet.network, options.weights, training)
        self.relaxed = RelaxedNetwork(supernet.network, supernet.space, weights)
        self.learner = create_learner(searcher.method, self.relaxed, self._files, options, chain.seed, context.pattern)
        targets: list[CostTarget] = []
        for name, space in chain.sizes:
            targets.append(CostTarget(name, space, targets[-1] if targets else None))
        batches = Batches(context.samples, options, training.batch, chain.seed)
        self.alternation = Alternation(
            self.learner, self._loss(), batches, training, targets, chain.tokens, context.compute
        )
        (directory / chain.name).mkdir(parents=True, exist_ok=True)
        self.alternation.load(directory / chain.name / CHECKPOINT)

    def _loss(self) -> Loss:
        context, network = self.context, self.context.supernet.network
        if self.learner.blockwise_loss:
            return BlockLoss(network, self.relaxed, context.teacher)
        objective = Objective(network, context.teacher, context.training)
        return lambda tensors, samples: objective(self.relaxed.with_tensors(tensors), samples)

    @property
    def done(self) -> bool:
        """Whether all sizes are learned."""
        return self.alternation.index == len(self.alternation.targets)

    def run_for(self, seconds: float) -> None:
        """Learn for some seconds; a size that ends is decided, measured and written."""
        checkpoint = self.directory / self.chain.name / CHECKPOINT
        if self.done or not self.alternation.run_for(seconds, checkpoint):
            return
        self._write_result()
        self.alternation.next_target()
        if not self.done:
            self.alternation.begin()
        self.alternation.save(checkpoint)

    @property
    def progress_text(self) -> str:
        """The current size and its last loss, for progress bars; empty when all sizes are done."""
        if self.done:
            return ""
        target = self.alternation.targets[self.alternation.index]
        return f"{target.name}  loss {self.alternation.last_loss:.4g}"

    def _write_result(self) -> None:
        number, chain = self.alternation.index, self.chain
        name, space = chain.sizes[number]
        path = chain.result_path(self.directory, number)
        if path.exists():  # written by a session that ended before its checkpoint
            return
        with torch.no_grad():
            decision = self.learner.decide(self.alternation.state())
        genome = genome_of(space, decision)
        result = {
            "size": name,
            "genome": genome.levels.tolist(),
            "tokens": self.alternation.target_tokens,  # without the remaining steps of a size that stopped early
            "stopped": self.alternation.stopped,
            "note": self.learner.note(),
        }
        if self.learner.returns_weights:
            result["losses"] = self._write_weights(decision, genome, chain.weights_path(self.directory, number))
        write_json(path, result)

    def _write_weights(self, decision: Decision, genome: Genome, path: Path) -> list[float]:
        """Write the learned network and return its losses with the weights as written."""
        context, supernet = self.context, self.context.supernet
        model = learned_network(self.relaxed, supernet.space, self._files, decision, genome)
        if batch_norms(model):
            reestimate(model, supernet.network.task, context.norm_samples, context.batch)
        rounded = round_to_storage(state_of(model), context.storage)
        state = {name: tensor.contiguous() for name, tensor in rounded.items()}
        with supernet.with_trained_weights(genome, state):
            losses = context.losses(supernet.materialise(genome))
        write_tensors(path, state, durable=True)
        return losses


def size_chains(
    targets: Sequence[tuple[str, Space]], warm: bool, repeats: int, tokens: int, seed: int
) -> list[SizeChain]:
    """Return chains of sizes that can be learned in parallel.

    Args:
        warm: whether each size starts where the one before ended; else every size is its own chain.
        repeats: number of times that all sizes are learned, each with its own seed.
    """
    chains = [tuple(targets)] if warm else [(target,) for target in targets]
    return [
        SizeChain(f"{number}-{index}", chain, tokens, seed + number)
        for number in range(repeats)
        for index, chain in enumerate(chains)
    ]
