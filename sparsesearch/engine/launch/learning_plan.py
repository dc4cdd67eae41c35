"""Checks of a search that learns by gradient, before it begins: tokens, memory, and options that do not fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparsesearch.bilevel.memory import needed_bytes
from sparsesearch.bilevel.registry import learner_class
from sparsesearch.config import RunConfig
from sparsesearch.data.samples import Samples, training_samples
from sparsesearch.devices import free_bytes, is_accelerator
from sparsesearch.engine.launch.checks import check_targets
from sparsesearch.engine.launch.numerics import worker_device
from sparsesearch.errors import problem
from sparsesearch.models.network import Network
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.searchers.base import Traits
from sparsesearch.searchers.learned.base import LearnedTraits
from sparsesearch.space import Space

# Steps for each size if neither options nor budget set the tokens.
DEFAULT_STEPS = 200


def learning_tokens(config: RunConfig, traits: Traits, samples: Mapping[str, Samples]) -> int | None:
    """Return the gradient tokens for each size; None if nothing is learned.

    They are those of the options, else the rest of search.tokens, else those of `DEFAULT_STEPS` steps.
    """
    if not isinstance(traits, LearnedTraits):
        return None
    options, search, selection = traits.options, config.search, samples["selection"]
    if options.tokens is not None:
        return options.tokens
    sizes = len(traits.targets) * options.repeats
    if search.tokens is not None:
        measured = (sizes + traits.baselines) * selection.size
        return max(search.tokens - measured, 0) // (TRAINING_PASSES * sizes)
    return DEFAULT_STEPS * step_tokens(config, traits, training_samples(samples))


def step_tokens(config: RunConfig, traits: LearnedTraits, training: Samples) -> int:
    """Return the gradient tokens of one step of the loop."""
    return (traits.options.lower + 1) * (traits.options.batch or config.training.batch) * training.length


def check_learning(
    config: RunConfig, traits: Traits, network: Network, space: Space, samples: Mapping[str, Samples]
) -> None:
    """Check that the recipe's searcher can learn, if it is one that does.

    Raises InputError SS114 for options that learning cannot follow, SS118 for too few tokens or samples,
    EnvironmentProblem SS308 for too little memory.
    """
    if not isinstance(traits, LearnedTraits):
        return
    _check_options(config, traits, network)
    if config.training.distill < 1:
        check_targets(network, training_samples(samples))
    _check_data_and_memory(config, traits, network, space, samples)


def _check_options(config: RunConfig, traits: LearnedTraits, network: Network) -> None:
    """Raise InputError SS114 for options that learning cannot follow."""
    name, options = config.search.searcher, traits.options
    takes_pattern = learner_class(traits.method).takes_pattern
    if takes_pattern and config.pruners.pattern is None:
        raise problem("SS114", f"searcher {name} chooses among N:M patterns.", fix='Set pruners.pattern: "2:4".')
    if not takes_pattern and config.pruners.pattern is not None:
        raise problem("SS114", f"searcher {name} keeps no {config.pruners.pattern} pattern.", fix="Use maskllm.")
    if config.pruners.compensate:
        raise problem(
            "SS114",
            f"searcher {name}: pruners.compensate corrects levels of the level store, which is not used here.",
            fix="Set pruners.compensate: false.",
        )
    if config.search.hours is not None:
        raise problem(
            "SS114",
            f"searcher {name} learns for a fixed number of tokens; a limit in hours could end it before.",
            fix="Use search.tokens (--tokens).",
        )
    if config.search.rungs:
        raise problem(
            "SS114",
            f"searcher {name} ends with its own weights; rungs would train those of the level store.",
            fix="Leave search.rungs out, and train its candidates with 'sparsesearch recover'.",
        )
    if getattr(options, "loss", "") == "blocks" and not network.blocks:
        raise problem("SS114", f"searcher {name}: the network has no blocks.", fix="Set search.options.loss: network.")
    if getattr(options, "mix", "") == "interpolate" and any(
        slot.batched for cut in network.cuts.values() for slot in cut.readers
    ):
        raise problem("SS114", f"searcher {name}: widths of experts cannot be interpolated.", fix="Set mix: masks.")


def _check_data_and_memory(
    config: RunConfig, traits: LearnedTraits, network: Network, space: Space, samples: Mapping[str, Samples]
) -> None:
    """Raise InputError SS118 for too few tokens or samples, EnvironmentProblem SS308 for too little memory."""
    name, options, training = config.search.searcher, traits.options, training_samples(samples)
    step, tokens = step_tokens(config, traits, training), learning_tokens(config, traits, samples) or 0
    if tokens < step:
        raise problem(
            "SS118",
            f"{tokens:,} gradient tokens for each size are less than one step takes ({step:,}).",
            fix="Give more search.tokens (--tokens) or search.options.tokens, or a smaller search.options.batch.",
        )
    if options.lower and len(training) < 2:
        raise problem("SS118", "one training sample cannot be split between weights and choice.", fix="Give more.")
    device = worker_device(config.executor)
    need, free = needed_bytes(config, network, space, traits, samples), free_bytes(device)
    if need * (1 if is_accelerator(device) else _concurrent_chains(config, traits)) > free:
        raise problem(
            "SS308",
            f"learning with {name} needs about {need / 1e9:.2g} GB a worker; {free / 1e9:.2g} GB are free.",
            fix="Use fewer workers (--workers), a smaller training.batch, or a method with fewer learned numbers.",
        )


def memory_note(
    config: RunConfig, traits: LearnedTraits, network: Network, space: Space, samples: Mapping[str, Samples]
) -> str:
    """Return a line on the memory that learning takes, and on samples that weights and choice might share."""
    text = f"Learning holds about {needed_bytes(config, network, space, traits, samples) / 1e9:.2g} GB a worker."
    repeated = _repeated_samples(training_samples(samples)) if traits.options.lower and traits.options.upper else 0
    shared = (
        f" SS411 {repeated} training samples occur twice: weights and what is pruned may be trained on the same ones."
    )
    return text + (shared if repeated else "")


def _concurrent_chains(config: RunConfig, traits: LearnedTraits) -> int:
    """Return how many chains of sizes run at once."""
    chains = traits.options.repeats * (1 if traits.options.warm else len(traits.targets))
    return min(chains, config.executor.workers)


def _repeated_samples(samples: Samples) -> int:
    """Return how many samples occur more than once."""
    rows = next(iter(samples.arrays.values())).reshape(len(samples), -1)
    return len(rows) - len(np.unique(rows, axis=0))
