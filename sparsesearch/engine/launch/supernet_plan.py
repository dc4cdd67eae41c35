"""What an elastic supernet needs to be told before it is built: how many steps, how much memory and disk, and whether
it can be at all.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sparsesearch.config import SupernetConfig
from sparsesearch.data.samples import MASK
from sparsesearch.engine.launch.checks import check_targets
from sparsesearch.engine.launch.learning_plan import available_bytes
from sparsesearch.errors import DamagedFile, problem
from sparsesearch.files import file_hash
from sparsesearch.models.source import Checkpoint
from sparsesearch.runs.cache import Cache, read_index, weights_of
from sparsesearch.space import Space
from sparsesearch.supernet.draws import Draws
from sparsesearch.training.activations import cache_bytes

if TYPE_CHECKING:
    from sparsesearch.engine.launch.launch import Launch

# Float32 of a parameter that is trained: itself, its gradient and two moments; of one that is only used.
TRAINED, USED = 16, 4
# Steps on which it is looked how many sub-networks are drawn.
SAMPLED = 64
# Hidden states that a backward pass through a block keeps, counted in its inputs, and copies of the logits.
KEPT, LOGITS = 20, 4


def networks_a_step(launch: Launch) -> float:
    """Sub-networks that a training step runs, on average: some are drawn twice, and run once."""
    draws = _draws(launch, SAMPLED)
    return sum(each.networks(0, SAMPLED) for each in draws) / len(draws) / SAMPLED


def _draws(launch: Launch, steps: int) -> list[Draws]:
    """What is drawn in a training of so many steps; of block-local training, for every block."""
    options = launch.config.supernet
    blocks = range(len(launch.network.blocks)) if options.kind == "block_local" else [None]
    return [Draws(launch.space, options, steps, options.training.seed, block) for block in blocks]


def steps_of(launch: Launch) -> int:
    """Steps that the training tokens allow; 0 where they are fewer than one takes."""
    options, samples = launch.config.supernet, launch.training_samples
    tokens = samples.size if options.tokens is None else options.tokens / networks_a_step(launch)
    return int(tokens / (options.training.batch * samples.length) + 1e-9)


def trained_tokens(launch: Launch, start: int, stop: int, block: int = 0) -> int:
    """Tokens of all sub-networks of some steps; of block-local training, those of a block."""
    options, samples = launch.config.supernet, launch.training_samples
    if not options.is_trained:
        return 0
    networks = _draws(launch, steps_of(launch))[block].networks(start, stop)
    return networks * options.training.batch * samples.length


def cached_samples(launch: Launch) -> int:
    """Samples whose hidden states block-local training reads."""
    samples = launch.training_samples
    return min(steps_of(launch) * launch.config.supernet.training.batch, len(samples))


def activation_bytes(launch: Launch) -> int:
    """Disk for the hidden states that block-local training reads; 0 for other training."""
    options, samples = launch.config.supernet, launch.training_samples
    if options.kind != "block_local":
        return 0
    width: torch.dtype = getattr(torch, launch.dtype.removeprefix("torch."))
    return cache_bytes(launch.network, samples, cached_samples(launch), width.itemsize)


def training_bytes(launch: Launch) -> float:
    """Memory of a worker that trains, an estimate: one block, or the network and the dense one."""
    network, options, samples = launch.network, launch.config.supernet, launch.training_samples
    positions = options.training.batch * samples.length * network.positions
    moving = 0.1 if options.weights == "lora" else 1.0
    if options.kind == "block_local":
        sizes = [
            sum(math.prod(s) for n, s in network.shapes.items() if n.startswith(f"{path}.")) for path in network.blocks
        ]
        return max(sizes) * (USED + moving * (TRAINED - USED)) + 4 * positions * network.hidden * KEPT
    params = sum(math.prod(shape) for shape in network.shapes.values())
    kept = KEPT * network.hidden * len(network.blocks)
    if not network.blocks:
        kept = LOGITS * sum(m.rows * m.groups * m.positions for m in network.matrices.values())
    activations = 4 * positions * (kept + 2 * LOGITS * max(network.values, 1))
    return params * (2 * USED + moving * (TRAINED - USED)) + activations


def supernet_plan(launch: Launch) -> dict[str, Any]:
    """Kind, steps and tokens of all sub-networks; memory of a worker and disk, in bytes."""
    options = launch.config.supernet
    if not options.is_trained:
        return {"kind": options.kind}
    return {
        "kind": options.kind,
        "steps": steps_of(launch),
        "networks_a_step": round(networks_a_step(launch), 2),
        "worker_bytes": round(training_bytes(launch)),
        "activation_bytes": activation_bytes(launch),
        "disk_bytes": disk_bytes(launch),
    }


def supernet_note(launch: Launch) -> str:
    """What training will hold, in memory and on disk."""
    text = f"Training the supernet holds about {training_bytes(launch) / 1e9:.2g} GB a worker"
    disk = activation_bytes(launch)
    return f"{text}, and {disk / 1e9:.2g} GB of hidden states on disk." if disk else f"{text}."


def disk_bytes(launch: Launch) -> int:
    """Disk while a supernet is built: hidden states, weights, blocks and checkpoints (three while one is written)."""
    options = launch.config.supernet
    params = sum(math.prod(shape) for shape in launch.network.shapes.values())
    blocks = 2 * USED * params if options.kind == "block_local" else 0
    checkpoints = 3 * (TRAINED - USED) * params if options.is_trained and options.weights == "full" else 0
    return activation_bytes(launch) + 2 * launch.storage_bytes * params + blocks + checkpoints


def check_supernet_disk(launch: Launch, cache: Cache) -> None:
    """Raise EnvironmentProblem SS305 where what a supernet takes will not fit; nothing where it is there already."""
    if not launch.supernet or read_index(cache.supernet(launch.supernet)) is not None:
        return
    need, states = disk_bytes(launch), activation_bytes(launch)
    directory = next(p for p in (cache.path, *cache.path.parents) if p.exists())
    free = shutil.disk_usage(directory).free
    if need <= free:
        return
    text = f"building the supernet needs about {need / 1e9:.1f} GB; {directory} has {free / 1e9:.1f} GB free."
    hint = "Use --results on a larger disk."
    if states:
        fitting = max(free - (need - states), 0) * cached_samples(launch) // states
        hint = f"Hidden states take {states / 1e9:.1f} GB of it: {fitting:,} data.training.sequences fit."
    raise problem("SS305", text, fix=hint)


def check_supernet(launch: Launch) -> None:
    """Nothing where weights are stitched from the level store.

    Raises InputError SS120 where the network or the space cannot be elastic, SS118 for too few tokens, SS209 or SS212
    where the task's own loss has nothing to be of, EnvironmentProblem SS308 where there is too little memory.
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
            "supernet.training.hidden: where channels are cut, blocks put out other shapes than the dense network's.",
            fix="Set supernet.training.hidden: 0.",
        )
    if options.kind == "block_local":
        _check_blocks(launch)
    elif options.training.distill < 1:
        check_targets(launch.network, samples)
    if steps_of(launch) < 1:
        step = math.ceil(networks_a_step(launch) * options.training.batch * samples.length)
        raise problem(
            "SS118",
            f"supernet: {options.tokens or samples.size:,} training tokens are less than one step takes ({step:,}).",
            fix="Give more supernet.tokens or data, or a smaller supernet.training.batch.",
        )
    need, there = training_bytes(launch), available_bytes(config)
    workers = config.executor.workers if options.kind == "block_local" and config.executor.device == "cpu" else 1
    if need * workers > there:
        raise problem(
            "SS308",
            f"training the supernet needs about {need / 1e9:.2g} GB a worker; {there / 1e9:.2g} GB are free.",
            fix="Use fewer --workers, a smaller supernet.training.batch, or supernet.kind: block_local.",
        )


def _check_space(options: SupernetConfig, space: Space) -> None:
    kinds, named = {unit.kind for unit in space.units}, [kind for stage in options.stages for kind in stage]
    if not kinds - {"sparsity"}:
        raise problem(
            "SS120",
            f"supernet {options.kind}: units have neither widths nor sublayers, and nothing to be elastic.",
            fix="Add units of kind ffn_width, say, or use supernet: stitched.",
        )
    if strange := sorted(set(named) - kinds):
        there = ", ".join(sorted(kinds))
        raise problem("SS120", f"supernet.stages: no unit is of kind {strange[0]}.", fix=f"There are: {there}.")
    if len(set(named)) < len(named):
        raise problem("SS120", "supernet.stages: a kind stands in two stages.", fix="Name each once.")


def _check_blocks(launch: Launch) -> None:
    network, options = launch.network, launch.config.supernet
    if not network.blockwise or not isinstance(launch.source, Checkpoint):
        raise problem(
            "SS120",
            f"supernet block_local: blocks of {network.model_type} do not simply follow one another.",
            fix="Use supernet: sandwich.",
        )
    if options.training.distill < 1 or options.training.hidden:
        raise problem(
            "SS120",
            "supernet block_local: blocks learn their dense outputs and nothing else.",
            fix="Leave supernet.training.distill and hidden out.",
        )
    if launch.teacher is not None:
        raise problem(
            "SS120",
            "supernet block_local: another network's blocks teach nothing here.",
            fix="Leave model.teacher out, or use supernet: sandwich.",
        )
    mask = launch.training_samples.arrays.get(MASK)
    if mask is not None and not mask.all():
        raise problem(
            "SS120",
            "supernet block_local: samples are padded, and every block would need each one's mask.",
            fix="Use supernet: sandwich, or texts as windows.",
        )


def check_weights(directory: Path) -> None:
    """Raise EnvironmentProblem SS306 where a supernet's weights are not those that were written."""
    index, path = read_index(directory), weights_of(directory)
    if index is None or not path.exists() or file_hash(path) != index["sha256"]:
        raise DamagedFile(
            path, "it is missing or not what was written", f"Delete {directory} to train it again.", "SS306"
        )
