"""The worker: holds the model once in a process and serves calls by name.

Its state can be rebuilt from its setup, so a crashed worker is simply replaced. It does not import Ray.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sparsesearch.allocation import Evidence
from sparsesearch.allocation.measured_evidence import measure_evidence
from sparsesearch.bilevel.chain import Learning, LearningContext, SizeChain
from sparsesearch.calibration import calibration_pass
from sparsesearch.calibration.gradients import collect_gradients
from sparsesearch.calibration.statistics import BlockPass, WholeModelPass, statistics_path
from sparsesearch.engine.launch.numerics import compute_dtype, worker_device
from sparsesearch.engine.launch.soundness import check_network, check_quality_sees_damage
from sparsesearch.engine.workers.call_results import Failed, Measured, TrainingResult, training_result
from sparsesearch.engine.workers.process import peak_bytes, set_up_process
from sparsesearch.engine.workers.setup import WorkerSetup, load_network
from sparsesearch.errors import EnvironmentProblem, machine_problem
from sparsesearch.evaluation import Evaluator, Targets, accuracy, perplexity, quality_class
from sparsesearch.evaluation.batchnorm import RunningStatistics
from sparsesearch.evaluation.prefix_cache import PrefixCache
from sparsesearch.files import json_number
from sparsesearch.logs import logger
from sparsesearch.plugins import load_plugins
from sparsesearch.proxies import Proxy
from sparsesearch.proxies.base import Need
from sparsesearch.proxies.gatherer import Gatherer, NetworkScorer, Score, Tables, tabulate
from sparsesearch.pruning import needs_gradients
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.searchers.learned.base import LearnedSearcher
from sparsesearch.searchers.registry import create
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet, StoreBuilder
from sparsesearch.supernet.propagate import propagated_weights
from sparsesearch.supernet.store import UnitFiles
from sparsesearch.tensors import is_intact, read_tensors
from sparsesearch.training.trainer import RETRAIN, CandidateTrainer, round_to_storage


class Worker:
    """Measures and trains candidates and builds caches; an executor calls its public methods by name."""

    def __init__(self, setup: WorkerSetup) -> None:
        set_up_process(setup)
        load_plugins(setup.config.plugins)
        self.setup, self.config = setup, setup.config
        self.run = RunDirectory(Path(setup.run))
        self.store, self.statistics = Path(setup.store), Path(setup.statistics)
        self.network = setup.network
        self.space = self.run.read_space()
        self._pass: Any = None
        self._position = 0
        self._learning: Learning | None = None

    @property
    def storage(self) -> torch.dtype:
        """Data type of weights in the model's files; not read by the constructor, which cannot raise InputError."""
        return self.setup.source.storage

    @cached_property
    def model(self) -> Any:
        return load_network(self.setup, compute_dtype(self.config, self.storage))

    def check(self) -> None:
        """Raise InputError SS233 to SS235 if network or quality rule a search out, before anything is built."""
        config = self.config
        samples = self.run.samples("calibration").rows(slice(0, config.batch))
        check_network(self.model, self.network, samples)
        selection, quality = self.run.samples("selection"), self.setup.quality
        check_quality_sees_damage(self.model, self.network, selection, config.objectives[0], quality, config.batch)

    @cached_property
    def builder(self) -> StoreBuilder:
        return StoreBuilder(
            self.model,
            self.network,
            self.space,
            self.config.pruners,
            directory=self.store,
            statistics=self.statistics,
            storage=self.storage,
            gradients=self._gradients if needs_gradients(self.config.pruners) else None,
        )

    @property
    def _gradients(self) -> Path:
        return self.statistics / "gradients.safetensors"

    def collect_gradients(self) -> None:
        """Write mean and mean squared gradients of the loss, unless they are written already."""
        collect_gradients(self.model, self.network, self.run.samples("calibration"), self._gradients)

    def evidence(self, needs: list[str]) -> Evidence:
        """Return the evidence that allocation rules need."""
        return measure_evidence(self.model, self.network, self.space, needs, self.statistics, self._gradients)

    def collect(self, block: int) -> None:
        """Collect a block's statistics and advance to the next block; blocks are collected in order.

        With error propagation the block's levels are built here too, since the next block's inputs depend on them.
        """
        if self.config.pruners.propagate == "dense" and self._all_collected():
            return
        if self._pass is None or self._position > block:
            samples = self.run.samples("calibration")
            self._pass = calibration_pass(self.model, self.network, samples, self.statistics, self.config.batch)
            self._position = 0
        try:
            while self._position <= block:
                self._collect_next(self._pass)
        except BaseException:  # removes the file of hidden states, which may have filled the disk
            self._end_pass()
            raise
        if self._position == len(self.network.blocks):
            self._end_pass()

    def _collect_next(self, run: BlockPass | WholeModelPass) -> None:
        run.collect(self._position)
        if self.config.pruners.propagate == "dense":
            run.advance(self._position)
        else:
            self.builder.build(self._position)
            with propagated_weights(self.builder.composer, self.config.pruners.propagate, self._position):
                run.advance(self._position)
        self._position += 1

    def _end_pass(self) -> None:
        if self._pass is not None:
            self._pass.close()
        self._pass = None

    def _all_collected(self) -> bool:
        blocks = range(len(self.network.blocks))
        return self._pass is None and all(is_intact(statistics_path(self.statistics, block)) for block in blocks)

    def has_statistics(self) -> bool:
        """Return whether all statistics of the calibration data exist and are intact; reads all of them."""
        return self._all_collected()

    def build(self, block: int) -> None:
        """Build all levels of a block."""
        self.builder.build(block)

    def finish_store(self, key: dict[str, Any]) -> None:
        """Write the store's index once all blocks are built."""
        self.builder.finish(key)

    def fill_teacher(self, start: int, stop: int) -> None:
        """Write the teacher's outputs for selection samples `start` to `stop`."""
        self._targets("r+").fill(self._teacher, self.network.task, start, stop, self.config.batch)

    @cached_property
    def _teacher(self) -> Any:
        """The network that candidates are compared with: the dense network, or the recipe's teacher."""
        teacher = self.setup.teacher
        if teacher is None:
            return self.model
        return teacher.load(compute_dtype(self.config, teacher.storage), worker_device(self.config.executor))

    def _targets(self, mode: Literal["r", "r+"]) -> Targets:
        return quality_class(self.config.objectives[0])(Path(self.setup.teacher_cache), mode)

    @cached_property
    def evaluator(self) -> Evaluator:
        files, compensate = UnitFiles(self.store), self.config.pruners.compensate
        supernet = StitchedSupernet(self.model, self.network, self.space, files, compensate=compensate)
        task, batch = self.network.task, self.config.batch
        samples = self.run.samples("calibration").rows(slice(0, self.config.data.batch_norm))
        norms = RunningStatistics(supernet, task, samples, batch)
        prefixes = None
        if self.network.blockwise:
            prefixes = PrefixCache(self.model, self.network, self.space, self.config.executor.prefix_bytes)
        return Evaluator(supernet, self._targets("r"), task, batch, norms, self.setup.quality, prefixes)

    def evaluate(self, genome: bytes, sequences: list[int], trained: int) -> Measured | Failed:
        """Measure a candidate on selection sequences; an exception of the candidate becomes `Failed`.

        Args:
            sequences: rows of the selection samples.
            trained: tokens that the candidate is trained on first; 0 for none.

        Raises EnvironmentProblem and errors of the machine, which are not the candidate's fault.
        """
        candidate, rows = Genome(genome), np.array(sequences, dtype=np.int64)
        try:
            if trained:
                self.evaluator.prepare(self.space.dense)
                return Measured(self._trials.train_and_score(candidate, trained, rows))
            return Measured(self.evaluator.losses(candidate, rows).tolist())
        except Exception as error:  # any exception of a candidate must not end the search
            fault = error if isinstance(error, EnvironmentProblem) else machine_problem(error)
            if fault is not None:
                raise fault from None
            logger.debug("candidate %s failed", candidate.id, exc_info=True)
            return Failed(f"{type(error).__name__}: {error}", traceback.format_exc())

    @cached_property
    def _gatherer(self) -> Gatherer:
        samples, batch = self.run.samples("calibration"), self.config.batch
        return Gatherer(self.evaluator.supernet, samples, self.statistics, self._gradients, self.store, batch)

    def gather(self, needs: Sequence[Need]) -> None:
        """Measure the quantities of the dense network that proxies need."""
        self.evaluator.prepare(self.space.dense)
        self._gatherer.gather(needs)

    def tabulate(self, block: int, proxies: list[Proxy]) -> dict[str, Tables]:
        """Return scores of all levels of a block's matrices, by proxy and matrix; `Failure` for a proxy that failed."""
        return tabulate(self._gatherer, block, proxies)

    @cached_property
    def _scorer(self) -> NetworkScorer:
        return NetworkScorer(self.evaluator, self.run.samples("calibration"))

    def score(self, genome: bytes, proxies: list[Proxy]) -> dict[str, Score]:
        """Return a candidate's scores by proxies that run the network, by name; `Failure` for a proxy that failed."""
        return self._scorer.scores(Genome(genome), proxies)

    @cached_property
    def _trials(self) -> CandidateTrainer:
        self.evaluator.prepare(self.space.dense)
        samples, compute = self.run.samples(self.setup.training), compute_dtype(self.config, self.storage)
        teacher = None if self.setup.teacher is None else self._teacher
        return CandidateTrainer(self.evaluator, samples, self.config.training, compute, self.storage, teacher)

    def train(
        self,
        genome: bytes,
        tokens: int,
        schedule_tokens: int,
        directory: Path,
        start: Path | None,
        saved: Callable[[], None],
    ) -> TrainingResult:
        """Train a candidate to a number of tokens and measure it; see `CandidateTrainer.train`."""
        trials = self._trials
        self.evaluator.prepare(self.space.dense)
        return training_result(trials.train(Genome(genome), tokens, schedule_tokens, directory, start, saved))

    def learn(self, chain: SizeChain, seconds: float) -> str:
        """Learn a chain of sizes for about `seconds`, from its files on; returns a line on its progress."""
        evaluator, config = self.evaluator, self.config
        dense = evaluator.prepare(self.space.dense)
        if self._learning is None or self._learning.chain.name != chain.name:
            search = config.search
            searcher = create(search.searcher, self.space, config.objectives, search.seed, search.options)
            assert isinstance(searcher, LearnedSearcher)
            context = LearningContext(
                evaluator.supernet,
                self.run.samples(self.setup.training),
                self.run.samples("calibration").rows(slice(0, config.data.batch_norm)),
                config.training,
                config.batch,
                config.pruners.pattern,
                dense if self.setup.teacher is None else self._teacher.float(),
                compute_dtype(config, self.storage),
                self.storage,
                self._all_losses,
            )
            self._learning = Learning(chain, searcher, context, self.run.learning)
        self._learning.run_for(seconds)
        progress = self._learning.progress_text
        if self._learning.done:
            self._learning = None
        return progress

    def _all_losses(self, model: Any) -> list[float]:
        """Return the losses of a network on all selection samples."""
        rows = np.arange(len(self.evaluator.targets.samples))
        losses: list[float] = self.evaluator.losses_of(model, rows).tolist()
        return losses

    def losses_of(self, genome: bytes, state: dict[str, torch.Tensor]) -> list[float]:
        """Return the losses of a candidate on all selection samples, trained weights rounded as they are stored.

        Args:
            state: trained weights by name.
        """
        supernet, candidate = self.evaluator.supernet, Genome(genome)
        with supernet.with_trained_weights(candidate, round_to_storage(state, self.storage)):
            return self._trials.losses(supernet.materialise(candidate))

    def _with_weights(self, genome: Genome, weights: Path) -> Any:
        """Return a separate network of a genome with the weights in a file."""
        supernet = self.evaluator.supernet
        self.evaluator.prepare(self.space.dense)
        with supernet.with_trained_weights(genome, read_tensors(weights, RETRAIN)):
            return supernet.materialise(genome)

    def usage(self) -> dict[str, int]:
        """Return the peak bytes of this process, the bytes of kept hidden states, and requested and run blocks."""
        usage = {"peak_bytes": peak_bytes()}
        evaluator: Evaluator | None = self.__dict__.get("evaluator")  # a fresh worker has none yet
        if evaluator is not None and (prefixes := evaluator.prefixes) is not None:
            usage |= {
                "prefix_bytes": prefixes.bytes,
                "blocks_asked": prefixes.blocks_requested,
                "blocks_ran": prefixes.blocks_run,
            }
        return usage

    def test(self, genome: bytes, weights: Path | None = None) -> float | None:
        """Return the perplexity or accuracy of a genome on the test samples; None if it is not finite.

        Args:
            weights: file of trained weights; those of the level store if None.
        """
        samples, candidate = self.run.samples("test"), Genome(genome)
        model = self.evaluator.prepare(candidate) if weights is None else self._with_weights(candidate, weights)
        if self.network.task.generates:
            value = perplexity(model, samples.arrays["input_ids"], self.config.batch)
        else:
            value = accuracy(model, self.network.task, samples, self.config.batch)
        return json_number(value)
