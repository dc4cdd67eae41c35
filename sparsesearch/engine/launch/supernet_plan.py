"""Steps, tokens, memory and disk of an elastic supernet, and the checks that come before it is built."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sparsesearch.config import SupernetConfig
from sparsesearch.data.samples import MASK
from sparsesearch.devices import free_bytes
from sparsesearch.engine.launch.checks import check_targets
from sparsesearch.engine.launch.numerics import worker_device
from sparsesearch.errors import DamagedFile, problem
from sparsesearch.files import file_hash
from sparsesearch.models.source import Checkpoint
from sparsesearch.runs.cache import Cache, read_index, weights_of
from sparsesearch.space import Space
from sparsesearch.supernet.draws import Draws
from sparsesearch.training.activations import cache_bytes

if TYPE_CHECKING:
    from sparsesearch.engine.launch.launch import Launch

# Bytes of a trained float32 parameter (value, gradient, two moments), and of one that is only read.
TRAINED_BYTES, READ_BYTES = 16, 4
# Steps over which the average number of drawn sub-networks is taken.
SAMPLED_STEPS = 64
# Activations that a backward pass through a block keeps, as multiples of its inputs, and copies of the logits.
ACTIVATIONS_PER_BLOCK, LOGIT_COPIES = 20, 4


def networks_per_step(launch: Launch) -> float:
    """Return the mean number of sub-networks that a training step runs; one that is drawn twice runs once."""
    block_draws = _draws(launch, SAMPLED_STEPS)
    return sum(draws.networks(0, SAMPLED_STEPS) for draws in block_draws) / len(block_draws) / SAMPLED_STEPS


def _draws(launch: Launch, steps: int) -> list[Draws]:
    """Return the draws of sub-networks in `steps` training steps; for block-local training, one for every block."""
    options = launch.config.supernet
    blocks = range(len(launch.network.blocks)) if options.kind == "block_local" else [None]
    return [Draws(launch.space, options, steps, options.training.seed, block) for block in blocks]


def steps_of(launch: Launch) -> int:
    """Return the steps that the training tokens allow; 0 if they are fewer than one step takes."""
    options, samples = launch.config.supernet, launch.training_samples
    tokens = samples.size if options.tokens is None else options.tokens / networks_per_step(launch)
    return int(tokens / (options.training.batch * samples.length) + 1e-9)


def trained_tokens(launch: Launch, start: int, stop: int, block: int = 0) -> int:
    """Return the tokens of all sub-networks of steps `start` to `stop`; for block-local training, those of a block."""
    options, samples = launch.config.supernet, launch.training_samples
    if not options.is_trained:
        return 0
    networks = _draws(launch, steps_of(launch))[block].networks(start, stop)
    return networks * options.training.batch * samples.length


def cached_samples(launch: Launch) -> int:
    """Return the number of samples whose hidden states block-local training reads."""
    samples = launch.training_samples
    return min(steps_of(launch) * launch.config.supernet.training.batch, len(samples))


def activation_bytes(launch: Launch) -> int:
    """Return the bytes on disk of the hidden states that block-local training reads; 0 for other training."""
    options, samples = launch.config.supernet, launch.training_samples
    if options.kind != "block_local":
        return 0
    width: torch.dtype = getattr(torch, launch.dtype.removeprefix("torch."))
    return cache_bytes(launch.network, samples, cached_samples(launch), width.itemsize)


def training_bytes(launch: Launch) -> float:
    """Return an estimate of the bytes that a training worker holds: one block, or the network and the dense one."""
    network, options, samples = launch.network, launch.config.supernet, launch.training_samples
    positions = options.training.batch * samples.length * network.positions
    trained_share = 0.1 if options.weights == "lora" else 1.0
    if options.kind == "block_local":
        sizes = [
            sum(math.prod(s) for n, s in network.shapes.items() if n.startswith(f"{path}.")) for path in network.blocks
        ]
        weights = max(sizes) * (READ_BYTES + trained_share * (TRAINED_BYTES - READ_BYTES))
        return weights + 4 * positions * network.hidden * ACTIVATIONS_PER_BLOCK
    params = sum(math.prod(shape) for shape in network.shapes.values())
    kept = ACTIVATIONS_PER_BLOCK * network.hidden * len(network.blocks)
    if not network.blocks:
        kept = LOGIT_COPIES * sum(m.rows * m.groups * m.positions for m in network.matrices.values())
    activations = 4 * positions * (kept + 2 * LOGIT_COPIES * max(network.values, 1))
    return params * (2 * READ_BYTES + trained_share * (TRAINED_BYTES - READ_BYTES)) + activations


def supernet_plan(launch: Launch) -> dict[str, Any]:
    """Return kind, steps and sub-networks a step of the training, and bytes of a worker, hidden states and disk."""
    options = launch.config.supernet
    if not options.is_trained:
        return {"kind": options.kind}
    return {
        "kind": options.kind,
        "steps": steps_of(launch),
        "networks_a_step": round(networks_per_step(launch), 2),
        "worker_bytes": round(training_bytes(launch)),
        "activation_bytes": activation_bytes(launch),
        "disk_bytes": disk_bytes(launch),
    }


def supernet_note(launch: Launch) -> str:
    """Return a line on the memory and disk that training needs."""
    text = f"Training the supernet holds about {training_bytes(launch) / 1e9:.2g} GB a worker"
    disk = activation_bytes(launch)
    return f"{text}, and {disk / 1e9:.2g} GB of hidden states on disk." if disk else f"{text}."


def disk_bytes(launch: Launch) -> int:
    """Return the bytes on disk that building takes: hidden states, weights, blocks and at most three checkpoints."""
    options = launch.config.supernet
    params = sum(math.prod(shape) for shape in launch.network.shapes.values())
    blocks = 2 * READ_BYTES * params if options.kind == "block_local" else 0
    trained = options.is_trained and options.weights == "full"
    checkpoints = 3 * (TRAINED_BYTES - READ_BYTES) * params if trained else 0
    return activation_bytes(launch) + 2 * launch.storage_bytes * params + blocks + checkpoints


def check_supernet_disk(launch: Launch, cache: Cache) -> None:
    """Raise EnvironmentProblem SS305 if building the supernet needs more disk than is free; it may exist already."""
    if not launch.supernet_key or read_index(cache.supernet(launch.supernet_key)) is not None:
        return
    need, states = disk_bytes(launch), activation_bytes(launch)
    directory = next(p for p in (cache.path, *cache.path.parents) if p.exists())
    free = shutil.disk_usage(directory).free
    if need <= free:
        return
    text = f"building the supernet needs about {need / 1e9:.1f} GB; {directory} has {free / 1e9:.1f} GB free."
    hint = "Use a results directory (--results) on a larger disk."
    if states:
        fitting = max(free - (need - states), 0) * cached_samples(launch) // states
        hint = f"Hidden states take {states / 1e9:.1f} GB of it: {fitting:,} data.training.sequences fit."
    raise problem("SS305", text, fix=hint)


def check_supernet(launch: Launch) -> None:
    """Check that the recipe's supernet can be built and trained; launches without an elastic one pass.

    Raises InputError SS117 or SS120 if network, space or options do not fit, SS118 for too few tokens, SS209 or SS212
    without a loss or labels, EnvironmentProblem SS308 for too little memory.
    """
    config, options = launch.config, launch.config.supernet
    if not options.is_elastic:
        return
    _check_space(options, launch.space)
    if not options.is_trained:
        return
    samples = launch.training_samples
    if options.training.hidden and any(unit.kind == "channels" for unit in launch.space.units):
        raise problem(
            "SS117",
            "supernet.training.hidden: units of kind channels change the output shapes of blocks, which are compared.",
            fix="Set supernet.training.hidden: 0.",
        )
    if options.kind == "block_local":
        _check_blocks(launch)
    elif options.training.distill < 1:
        check_targets(launch.network, samples)
    if steps_of(launch) < 1:
        step = math.ceil(networks_per_step(launch) * options.training.batch * samples.length)
        raise problem(
            "SS118",
            f"supernet: {options.tokens or samples.size:,} training tokens are less than one step takes ({step:,}).",
            fix="Give more supernet.tokens or data, or a smaller supernet.training.batch.",
        )
    need, free = training_bytes(launch), free_bytes(worker_device(config.executor))
    workers = (
        config.executor.workers if options.kind == "block_local" and worker_device(config.executor) == "cpu" else 1
    )
    if need * workers > free:
        raise problem(
            "SS308",
            f"training the supernet needs about {need / 1e9:.2g} GB a worker; {free / 1e9:.2g} GB are free.",
            fix="Use fewer workers (--workers), a smaller supernet.training.batch, or supernet.kind: block_local.",
        )


def _check_space(options: SupernetConfig, space: Space) -> None:
    """Raise InputError SS120 if no unit can be elastic, or stages do not fit the units."""
    kinds, staged = {unit.kind for unit in space.units}, [kind for stage in options.stages for kind in stage]
    if not kinds - {"sparsity"}:
        raise problem(
            "SS120",
            f"supernet {options.kind}: no unit is a width or a sublayer, so that nothing can be elastic.",
            fix="Add units, such as ffn_width, or use supernet: stitched.",
        )
    if unknown := sorted(set(staged) - kinds):
        raise problem(
            "SS120",
            f"supernet.stages: no unit is of kind {unknown[0]}.",
            fix=f"Kinds of units: {', '.join(sorted(kinds))}.",
        )
    if len(set(staged)) < len(staged):
        raise problem("SS120", "supernet.stages: a kind is named in two stages.", fix="Name each once.")


def _check_blocks(launch: Launch) -> None:
    """Raise InputError SS120 if the network, options or samples rule block-local training out."""
    network, options = launch.network, launch.config.supernet
    if not network.blockwise or not isinstance(launch.source, Checkpoint):
        raise problem(
            "SS120",
            f"supernet block_local: blocks of {network.model_type} do not follow one another in a chain.",
            fix="Use supernet: sandwich.",
        )
    if options.training.distill < 1 or options.training.hidden:
        raise problem(
            "SS120",
            "supernet block_local: blocks are only trained towards their dense outputs.",
            fix="Leave supernet.training.distill and hidden out.",
        )
    if launch.teacher is not None:
        raise problem(
            "SS120",
            "supernet block_local: blocks cannot be trained towards another network's blocks.",
            fix="Leave model.teacher out, or use supernet: sandwich.",
        )
    mask = launch.training_samples.arrays.get(MASK)
    if mask is not None and not mask.all():
        raise problem(
            "SS120",
            "supernet block_local: samples are padded, and blocks are trained without masks.",
            fix="Use supernet: sandwich, or texts as windows.",
        )


def check_weights(directory: Path) -> None:
    """Raise EnvironmentProblem SS306 if a supernet's weights are not those that were written."""
    index, path = read_index(directory), weights_of(directory)
    if index is None or not path.exists() or file_hash(path) != index["sha256"]:
        raise DamagedFile(
            path, "it is missing or not as it was written", f"Delete {directory} to train it again.", "SS306"
        )
