"""The learned part of a search: workers learn sizes, side by side where they can, and what they find is a candidate.

What a size ends with is a file, so that nothing that was paid for is lost; in between there are checkpoints.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.bilevel.chain import CHECKPOINT, SizeChain, size_chains
from sparsesearch.engine.launch.learning_plan import memory_note, searcher_of, tokens_of
from sparsesearch.engine.launch.prepare import Launch
from sparsesearch.engine.workers.executor import Executor, alive
from sparsesearch.evaluation.evaluator import quality_of
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import TRAINING_PASSES, Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import LEARNED, LEARNING
from sparsesearch.searchers import Evaluation
from sparsesearch.searchers.learned import LearnedSearcher
from sparsesearch.space import Genome, Space
from sparsesearch.training.loop import tokens_of as tokens_of_checkpoint
from sparsesearch.training.trainer import weights_path

# Seconds that a worker learns before it says how far it is.
SLICE = 10.0


@dataclass(frozen=True)
class Learned:
    """What learning found.

    Attributes:
        genomes: by name, in the order of the sizes.
        tokens: that it took, in forward passes.
    """

    genomes: dict[str, Genome]
    tokens: int


NOTHING = Learned({}, 0)


def learn(
    launch: Launch, run: RunDirectory, space: Space, executor: Executor, reporter: Reporter, ledger: Ledger
) -> Learned:
    """Learn what the searcher of a launch learns; what is done already is read."""
    searcher = searcher_of(launch.config, space)
    if searcher is None:
        return NOTHING
    options, tokens = searcher.options, tokens_of(launch.config, searcher, launch.samples)
    targets = list(searcher.targets().items())
    plans = size_chains(targets, options.warm, options.repeats, tokens, launch.config.search.seed)
    reporter.message(memory_note(launch.config, launch.network, space, launch.samples))
    whole = sum(len(plan.sizes) * tokens for plan in plans)
    reporter.phase(f"learning ({launch.config.search.searcher}), tokens", whole)
    waiting = [plan for plan in plans if len(plan.results(run.learning)) < len(plan.sizes)]
    paid = ledger.tokens(LEARNING)
    while waiting:
        started = time.monotonic()
        for told in alive(executor.map("learn", [(plan, SLICE) for plan in waiting])):
            reporter.step(_behind(plans, run.learning), told)
        # By the files, so that what a killed session did is paid once.
        spent = TRAINING_PASSES * _behind(plans, run.learning)
        ledger.add(LEARNING, time.monotonic() - started, spent - paid)
        paid = spent
        waiting = [plan for plan in plans if len(plan.results(run.learning)) < len(plan.sizes)]
    reporter.end()
    return _taken_in(plans, searcher, run, reporter, space, launch)


def _behind(plans: list[SizeChain], directory: Path) -> int:
    """Gradient tokens that are behind all plans, by their files."""
    return sum(tokens_of_checkpoint(directory / plan.name / CHECKPOINT) for plan in plans)


def _taken_in(
    plans: list[SizeChain],
    searcher: LearnedSearcher,
    run: RunDirectory,
    reporter: Reporter,
    space: Space,
    launch: Launch,
) -> Learned:
    """Genomes by name, and weights where recovery and export look for them."""
    genomes, spent = dict[str, Genome](), 0
    trained = Archive(run.trained, writable=True)
    for plan in plans:
        for number, found in enumerate(plan.results(run.learning)):
            genome, spent = Genome.of(found["genome"]), spent + found["tokens"]
            again = f" ({plan.seed})" if searcher.options.repeats > 1 else ""
            genomes[f"learned {found['size']}{again}"] = genome
            if found["stopped"]:
                reporter.message(
                    f"SS408 learning {found['size']}: {found['stopped']}; what was learned before it counts."
                )
            if found["note"]:
                reporter.message(f"SS412 learning {found['size']}: {found['note']}.")
            if "losses" in found:
                _archive(trained, run, plan, number, found, space, launch)
    return Learned(genomes, TRAINING_PASSES * spent)


def _archive(
    trained: Archive,
    run: RunDirectory,
    plan: SizeChain,
    number: int,
    found: dict[str, Any],
    space: Space,
    launch: Launch,
) -> None:
    """The network that a size ended with, as training leaves a candidate: weights in a file, quality in the archive."""
    genome, losses = Genome.of(found["genome"]), np.array(found["losses"])
    place = run.trials / genome.id
    source, target = plan.weights_path(run.learning, number), weights_path(place, plan.tokens)
    quality = quality_of(losses, launch.config.objectives[0])
    entry = Evaluation(
        genome,
        len(losses),
        0,
        LEARNED,
        "ok" if math.isfinite(quality) else "invalid",
        quality,
        space.costs.named(genome.levels),
        tuple(losses.tolist()),
        trained=plan.tokens,
    )
    known = trained.entries.get((genome, 0, len(losses), plan.tokens))
    if known is not None and not quality < known.quality:
        return
    if source.exists():
        place.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    if target.exists():  # perhaps moved by a session that ended before it said so
        trained.append(entry)
