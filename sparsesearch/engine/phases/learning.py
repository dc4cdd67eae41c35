"""The learned part of a search: workers learn sizes, in parallel if possible, and each size becomes a candidate.

The result of each size is a file, and there are checkpoints in between, so that nothing is learned twice.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.bilevel.chain import CHECKPOINT, SizeChain, size_chains
from sparsesearch.engine.job import Job
from sparsesearch.engine.launch.learning_plan import learning_tokens, memory_note
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.evaluation.evaluator import quality_of
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.runs.results import LEARNED, LEARNING
from sparsesearch.searchers import Evaluation
from sparsesearch.searchers.learned.base import LearnedTraits, learning_targets
from sparsesearch.space import Genome
from sparsesearch.training.loop import tokens_of as tokens_of_checkpoint
from sparsesearch.training.trainer import weights_path

# Seconds of learning before a call reports its progress.
SECONDS_PER_CALL = 10.0


@dataclass(frozen=True)
class Learned:
    """The results of learning.

    Attributes:
        genomes: learned genomes by name, in the order of the sizes.
        tokens: tokens that learning took, each gradient token counted as `TRAINING_PASSES`.
    """

    genomes: dict[str, Genome]
    tokens: int


NOTHING = Learned({}, 0)


def learn(job: Job) -> Learned:
    """Learn the sizes of a launch whose searcher learns by gradient; finished sizes are read from their files."""
    launch, run, reporter, ledger = job.launch, job.run, job.reporter, job.ledger
    traits, search = launch.traits, launch.config.search
    if not isinstance(traits, LearnedTraits):
        return NOTHING
    options, tokens = traits.options, learning_tokens(launch.config, traits, launch.samples)
    assert tokens is not None
    targets = learning_targets(job.space, launch.config.objectives[1], options.sizes)
    chains = size_chains(list(targets.items()), options.warm, options.repeats, tokens, search.seed)
    reporter.message(memory_note(launch.config, traits, launch.network, job.space, launch.samples))
    total = sum(len(chain.sizes) * tokens for chain in chains)
    reporter.phase(f"learning ({search.searcher}), tokens", total)
    waiting = [chain for chain in chains if len(chain.results(run.learning)) < len(chain.sizes)]
    recorded = ledger.tokens(LEARNING)
    while waiting:
        started = time.monotonic()
        for progress in job.executor.map(Worker.learn, [(chain, SECONDS_PER_CALL) for chain in waiting]):
            reporter.step(_learned_tokens(chains, run.learning), progress)
        # Counted by the files, so that tokens of a killed session are recorded once.
        spent = TRAINING_PASSES * _learned_tokens(chains, run.learning)
        ledger.add(LEARNING, time.monotonic() - started, spent - recorded)
        recorded = spent
        waiting = [chain for chain in chains if len(chain.results(run.learning)) < len(chain.sizes)]
    reporter.end()
    return _collect(job, chains, options.repeats)


def _learned_tokens(chains: list[SizeChain], directory: Path) -> int:
    """Return the gradient tokens that all chains have learned on, by their files."""
    return sum(tokens_of_checkpoint(directory / chain.name / CHECKPOINT) for chain in chains)


def _collect(job: Job, chains: list[SizeChain], repeats: int) -> Learned:
    """Return the learned genomes, and move weights to where recovery and export read them."""
    run, reporter = job.run, job.reporter
    genomes, spent = dict[str, Genome](), 0
    trained = Archive(run.trained, writable=True)
    for chain in chains:
        for number, result in enumerate(chain.results(run.learning)):
            genome, spent = Genome.of(result["genome"]), spent + result["tokens"]
            repeat = f" ({chain.seed})" if repeats > 1 else ""
            genomes[f"learned {result['size']}{repeat}"] = genome
            if result["stopped"]:
                reporter.message(f"SS408 learning {result['size']}: {result['stopped']}; the state before is used.")
            if result["note"]:
                reporter.message(f"SS412 learning {result['size']}: {result['note']}.")
            if "losses" in result:
                _archive(job, trained, chain, number, result)
    return Learned(genomes, TRAINING_PASSES * spent)


def _archive(job: Job, trained: Archive, chain: SizeChain, number: int, result: dict[str, Any]) -> None:
    """Keep the learned network of a size as training keeps a candidate: weights in a file, losses in the archive."""
    genome, losses = Genome.of(result["genome"]), np.array(result["losses"])
    directory = job.run.trials / genome.id
    source, target = chain.weights_path(job.run.learning, number), weights_path(directory, chain.tokens)
    quality = quality_of(losses, job.launch.config.objectives[0])
    entry = Evaluation(
        genome,
        len(losses),
        0,
        LEARNED,
        "ok" if math.isfinite(quality) else "invalid",
        quality,
        job.space.costs.named(genome.levels),
        tuple(losses.tolist()),
        trained=chain.tokens,
        role="learned",
    )
    before = trained.entries.get(entry.request)
    if before is not None and not quality < before.quality:
        return
    if source.exists():
        directory.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    if target.exists():  # a session may have ended after it moved the file and before it wrote the line
        trained.append(entry)
