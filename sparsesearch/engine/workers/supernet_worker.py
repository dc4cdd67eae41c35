"""The worker of an elastic supernet: sorts the network, trains it whole or block by block, and writes it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from sparsesearch.calibration.statistics import outputs
from sparsesearch.data.samples import Samples
from sparsesearch.engine.launch.numerics import compute_dtype, worker_device
from sparsesearch.engine.workers.process import peak_bytes, set_up_process
from sparsesearch.engine.workers.setup import WorkerSetup, load_network
from sparsesearch.evaluation.batchnorm import batch_norms, reestimate
from sparsesearch.models.source import Checkpoint
from sparsesearch.runs.cache import SORTED, directory_of, weights_of
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.supernet.draws import Draws
from sparsesearch.supernet.elastic import ElasticSupernet
from sparsesearch.supernet.sorting import rankings, sort_exactly
from sparsesearch.supernet.stitched import load_exactly, state_of
from sparsesearch.supernet.store import UnitFiles
from sparsesearch.tensors import is_intact, read_tensors, write_tensors
from sparsesearch.training.activations import Activations, write_arguments, write_shard
from sparsesearch.training.block_local import BlockRun, LocalBlock, block_tensors, materialise_block
from sparsesearch.training.loop import Diverged
from sparsesearch.training.nested import NestedRun
from sparsesearch.training.objective import Objective
from sparsesearch.training.trainer import round_to_storage
from sparsesearch.training.weights import Weights

# Number of samples whose outputs must not change when elements are sorted.
COMPARED_SAMPLES = 2
# Number of samples on which the trained network's running statistics are measured; candidates' are corrected relative
# to these.
STATISTICS_SAMPLES = 4096


@dataclass(frozen=True)
class SupernetProgress:
    """Progress of the training of a whole supernet.

    Attributes:
        step, begun: the current step, and the step before this call.
        loss: loss of the last step; 0 if there was none.
        stopped: why training ended early; empty if it did not.
    """

    step: int
    begun: int
    loss: float
    done: bool
    stopped: str


@dataclass(frozen=True)
class BlockProgress:
    """The last step of the training of a block, and why it ended early (empty if it did not)."""

    step: int
    stopped: str


class SupernetWorker:
    """Sorts and trains an elastic supernet; an executor calls its public methods, which load their own inputs."""

    def __init__(self, setup: WorkerSetup) -> None:
        set_up_process(setup)
        self.setup, self.config, self.options = setup, setup.config, setup.config.supernet
        self.run = RunDirectory(Path(setup.run))
        self.directory, self.network = Path(setup.supernet_directory), setup.network
        self.space = self.run.read_space()
        self.device = worker_device(self.config.executor)

    @property
    def compute(self) -> torch.dtype:
        return compute_dtype(self.config, self.setup.source.storage)

    @cached_property
    def samples(self) -> Samples:
        """Training data."""
        return self.run.samples(self.setup.training)

    def sort(self) -> None:
        """Write the network with elements sorted as the level store ranks them, or copy the supernet to start from."""
        target = self.directory / SORTED
        if is_intact(target):
            return
        if self.options.start is not None:
            write_tensors(target, read_tensors(weights_of(directory_of(self.options.start))))
            return
        model = load_network(self.setup, torch.float32)
        ranked = rankings(self.network, self.space, UnitFiles(Path(self.setup.store)))
        samples = self.run.samples("calibration").rows(slice(0, COMPARED_SAMPLES))
        sort_exactly(model, self.network, ranked, lambda: outputs(model, self.network, samples))
        self._write(model, target)

    def _write(self, model: Any, path: Path) -> None:
        state = round_to_storage(state_of(model), self.setup.source.storage)
        write_tensors(path, {name: tensor.clone() for name, tensor in state.items()})

    def _sorted(self) -> Any:
        model = load_network(self.setup, torch.float32)
        load_exactly(model, read_tensors(self.directory / SORTED))
        return model

    @cached_property
    def _dense(self) -> Any:
        """The network that training distils from."""
        return (self.setup.teacher or self.setup.source).load(self.compute, self.device)

    def train(self, steps: int, seconds: float) -> SupernetProgress:
        """Train the whole network for about `seconds`, from its checkpoint on.

        Args:
            steps: steps of the whole training.
        """
        run, checkpoint = self._run(steps), self.directory / "checkpoints" / "network"
        stopped, begun = "", run.step
        try:
            done = run.run_for(seconds, checkpoint)
        except Diverged as error:
            done, stopped = True, str(error)
            run.save(checkpoint)
        loss = run.losses[-1] if run.losses else 0.0
        return SupernetProgress(run.step, begun, loss, done, stopped)

    def _run(self, steps: int) -> NestedRun:
        if self._running is None:
            weights = Weights(self._sorted(), self.network, self.options.weights, self.options.training)
            elastic = ElasticSupernet(weights.model, self.network, self.space, weights.tensor, self.options.execution)
            draws = Draws(self.space, self.options, steps, self.options.training.seed)
            objective = Objective(self.network, self._dense, self.options.training)
            run = NestedRun(weights, elastic, draws, objective, self.samples, self.options, self.compute)
            run.load(self.directory / "checkpoints" / "network")
            self._running = run
        return self._running

    _running: NestedRun | None = None

    def write_arguments(self) -> None:
        """Write the arguments that blocks take beside hidden states, and each block of the sorted network."""
        write_arguments(self._activations, self._base, self.network, self.samples)
        model = self._sorted()
        (self.directory / "blocks").mkdir(exist_ok=True)
        for block, path in enumerate(self.network.blocks):
            write_tensors(self._block_path(block, "start"), block_tensors(model, path))

    @cached_property
    def _base(self) -> Any:
        return self.setup.source.load(self.compute, self.device)

    def write_shard(self, number: int, start: int, stop: int) -> None:
        """Write the hidden states of a shard of the training samples."""
        samples = self.samples.rows(slice(start, stop))
        write_shard(self._activations, self._base, self.network, samples, number, self.config.batch)

    @property
    def _activations(self) -> Path:
        return self.directory / "activations"

    def _block_path(self, block: int, stage: str) -> Path:
        return self.directory / "blocks" / f"{block:03d}-{stage}.safetensors"

    def train_block(self, block: int, steps: int, count: int) -> BlockProgress:
        """Train one block to its end, from its checkpoint on.

        Args:
            steps: steps of the training.
            count: number of samples whose hidden states are on disk.
        """
        done, path = self._block_path(block, "trained"), self.network.blocks[block]
        if is_intact(done):
            with safe_open(done, framework="pt") as file:
                return BlockProgress(**json.loads(file.metadata()["told"]))
        assert isinstance(self.setup.source, Checkpoint)
        tensors = read_tensors(self._block_path(block, "start"))
        skeleton = materialise_block(self.setup.source.skeleton(), path, tensors, self.device)
        samples = self.samples.rows(slice(0, count))
        local = LocalBlock(skeleton, self.network, block, Activations(self._activations, block))
        run = BlockRun(local, self.space, samples, self.options, steps, self.compute)
        checkpoint, stopped = self.directory / "checkpoints" / f"{block:03d}", ""
        run.load(checkpoint)
        try:
            run.run_saving(steps, checkpoint, lambda: None)
        except Diverged as error:
            stopped = str(error)
        run.trainee.merge()
        progress = BlockProgress(run.step, stopped)
        write_tensors(done, block_tensors(skeleton, path), {"told": json.dumps(asdict(progress))})
        return progress

    def usage(self) -> int:
        """Return the peak memory of this process in bytes."""
        return peak_bytes()

    def finish(self, steps: int) -> None:
        """Write the weights of the trained network, with running statistics measured anew."""
        model = self._sorted()
        if self.options.kind == "block_local":
            state = dict(model.named_parameters()) | dict(model.named_buffers())
            for block, path in enumerate(self.network.blocks):
                for name, tensor in read_tensors(self._block_path(block, "trained")).items():
                    state[f"{path}.{name}"].data.copy_(tensor)
        elif self.options.is_trained:
            model = self._run(steps).trainee.merge()
            if batch_norms(model):
                samples = self.samples.rows(slice(0, STATISTICS_SAMPLES))
                reestimate(model, self.network.task, samples, self.config.batch)
        self._write(model, weights_of(self.directory))
