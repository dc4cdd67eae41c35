"""What a learned search holds in memory, before it begins."""

from __future__ import annotations

import math

from sparsesearch.bilevel.patterns import pattern_count
from sparsesearch.calibration.samples import Samples
from sparsesearch.config import RunConfig
from sparsesearch.models.network import Network
from sparsesearch.models.units import sparsity_module
from sparsesearch.searchers.learned import LearnedSearcher
from sparsesearch.space import Space

# float32, and what Adam keeps beside each parameter: the gradient and two moments.
FLOAT, ADAM = 4, 3
# Hidden states of a block that a backward pass needs, counted in its inputs, and copies of the logits.
ACTIVATIONS, LOGITS = 20, 4


def needed_bytes(
    config: RunConfig, network: Network, space: Space, searcher: LearnedSearcher, samples: dict[str, Samples]
) -> float:
    """Bytes of one worker: the networks, what is learned with its optimizer, masks, and activations; an estimate."""
    options = searcher.options
    params = sum(math.prod(shape) for shape in network.shapes.values())
    pruned = {f"{sparsity_module(m)}.sparsity": m.size for m in network.matrices.values()}
    sizes = {unit.name: pruned[unit.name] for unit in space.units if unit.kind == "sparsity"}
    read = sum(m.size for m in network.matrices.values())
    weights = {"frozen": 0.0, "full": float(params), "lora": 0.1 * read}[options.weights]
    learned = 0.0
    masks = 0.0
    if searcher.method in ("bip", "hydra"):
        learned, masks = float(sum(sizes.values())), 2.0 * FLOAT * sum(sizes.values())
    if searcher.method == "maskllm":
        # Logits, their mixture and what it is made of.
        learned = pattern_count(config.pruners.pattern or "2:4") * sum(sizes.values())
        masks = 3 * FLOAT * learned
    if searcher.method in ("tas", "besa"):
        levels = {unit.name: len(unit.levels) for unit in space.units}
        masks = sum(size * (levels[name] + 2 * FLOAT) for name, size in sizes.items())
    data = samples.get("training", samples["calibration"])
    positions = (options.batch or config.training.batch) * data.length * network.positions
    activations = positions * (
        ACTIVATIONS * network.hidden * max(len(network.blocks), 1) + LOGITS * max(network.values, 1)
    )
    # Dense, learned and (when a size ends) a copy; tensors that are open, and their gradients.
    networks = 3 * params + 2 * read
    return FLOAT * (networks + (1 + ADAM) * learned + ADAM * weights + activations) + masks
