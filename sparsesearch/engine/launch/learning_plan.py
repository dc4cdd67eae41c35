"""What a learned search needs to be told before it begins: how long, how much memory, and whether it can at all."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from sparsesearch.bilevel.memory import needed_bytes
from sparsesearch.bilevel.registry import learner_class
from sparsesearch.config import RunConfig
from sparsesearch.data.samples import Samples
from sparsesearch.engine.launch.checks import check_targets
from sparsesearch.errors import problem
from sparsesearch.models.network import Network
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.searchers.learned import LearnedSearcher
from sparsesearch.searchers.registry import create
from sparsesearch.space import Space

# Steps for each size where nothing says how long to learn.
STEPS = 200


def searcher_of(config: RunConfig, space: Space) -> LearnedSearcher | None:
    """The searcher of a configuration where it is a learned one."""
    search = config.search
    found = create(search.searcher, space, config.objectives, search.seed, search.options)
    return found if isinstance(found, LearnedSearcher) else None


def tokens_of(config: RunConfig, searcher: LearnedSearcher, samples: dict[str, Samples]) -> int:
    """Gradient tokens for each size: as the options say, or what the search's tokens leave, or some steps."""
    options, search, selection = searcher.options, config.search, samples["selection"]
    if options.tokens is not None:
        return options.tokens
    sizes = len(searcher.targets()) * options.repeats
    if search.tokens is not None:
        measured = (sizes + len(searcher.starting(0))) * selection.size
        return max(search.tokens - measured, 0) // (TRAINING_PASSES * sizes)
    return STEPS * step_tokens(config, searcher, samples)


def step_tokens(config: RunConfig, searcher: LearnedSearcher, samples: dict[str, Samples]) -> int:
    """Gradient tokens of one step of the loop."""
    length = samples.get("training", samples["calibration"]).length
    return (searcher.options.lower + 1) * (searcher.options.batch or config.training.batch) * length


def check_learning(config: RunConfig, network: Network, space: Space, samples: dict[str, Samples]) -> None:
    """Nothing where nothing is learned.

    Raises InputError SS114 where the recipe asks for what learning cannot do, SS118 for too few tokens or samples,
    EnvironmentProblem SS308 where there is too little memory.
    """
    searcher = searcher_of(config, space)
    if searcher is None:
        return
    name, options = config.search.searcher, searcher.options
    takes_pattern = learner_class(searcher.method).takes_pattern
    if takes_pattern and config.pruners.pattern is None:
        raise problem("SS114", f"searcher {name} chooses among N:M patterns.", fix='Set pruners.pattern, to "2:4" say.')
    if not takes_pattern and config.pruners.pattern is not None:
        raise problem("SS114", f"searcher {name} keeps no {config.pruners.pattern} pattern.", fix="Use maskllm.")
    if config.training.distill < 1:
        check_targets(network, samples.get("training", samples["calibration"]))
    if config.pruners.compensate:
        raise problem(
            "SS114",
            f"searcher {name}: pruners.compensate makes up for what the level store takes, not for this.",
            fix="Set pruners.compensate: false.",
        )
    if config.search.hours is not None:
        raise problem(
            "SS114",
            f"searcher {name} learns for a number of tokens; hours could end it half-way.",
            fix="Use --tokens.",
        )
    if config.search.rungs:
        raise problem(
            "SS114",
            f"searcher {name} ends with weights of its own; rungs would train those of the level store.",
            fix="Leave search.rungs out, and use 'sparsesearch recover' on what it finds.",
        )
    if getattr(options, "loss", "") == "blocks" and not network.blocks:
        raise problem("SS114", f"searcher {name}: the network has no blocks.", fix="Set search.options.loss: network.")
    if getattr(options, "mix", "") == "interpolate" and any(
        slot.batched for cut in network.cuts.values() for slot in cut.readers
    ):
        raise problem("SS114", f"searcher {name}: widths of experts cannot be interpolated.", fix="Set mix: masks.")
    data = samples.get("training", samples["calibration"])
    step, tokens = step_tokens(config, searcher, samples), tokens_of(config, searcher, samples)
    if tokens < step:
        raise problem(
            "SS118",
            f"{tokens:,} gradient tokens for each size are less than one step takes ({step:,}).",
            fix="Give more --tokens or search.options.tokens, or a smaller search.options.batch.",
        )
    if options.lower and len(data) < 2:
        raise problem("SS118", "one training sample cannot be shared between weights and choice.", fix="Give more.")
    need, there = needed_bytes(config, network, space, searcher, samples), available_bytes(config)
    if need * (1 if config.executor.device == "cuda" else _side_by_side(config, searcher)) > there:
        raise problem(
            "SS308",
            f"learning with {name} needs about {need / 1e9:.2g} GB a worker; {there / 1e9:.2g} GB are free.",
            fix="Use fewer --workers, a smaller training.batch, or a method that learns less beside each weight.",
        )


def memory_note(config: RunConfig, network: Network, space: Space, samples: dict[str, Samples]) -> str:
    """What learning will hold, and whether weights and choice might see the same samples."""
    searcher = searcher_of(config, space)
    assert searcher is not None
    text = f"Learning holds about {needed_bytes(config, network, space, searcher, samples) / 1e9:.2g} GB a worker."
    data = samples.get("training", samples["calibration"])
    twice = _seen_twice(data) if searcher.options.lower and searcher.options.upper else 0
    shared = f" SS411 {twice} training samples occur twice: weights and choice may see the same ones."
    return text + (shared if twice else "")


def _side_by_side(config: RunConfig, searcher: LearnedSearcher) -> int:
    """Plans that run at once."""
    plans = searcher.options.repeats * (1 if searcher.options.warm else len(searcher.targets()))
    return min(plans, config.executor.workers)


def available_bytes(config: RunConfig) -> float:
    """Memory that is free where learning runs; infinite where nobody says."""
    if config.executor.device == "cuda":
        return float(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else math.inf
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), math.inf)


def _seen_twice(samples: Samples) -> int:
    """Samples that are there more than once."""
    rows = next(iter(samples.arrays.values())).reshape(len(samples), -1)
    return len(rows) - len(np.unique(rows, axis=0))
