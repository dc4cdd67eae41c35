"""What a learned search holds in memory, before it begins."""

from __future__ import annotations

import math

from sparsesearch.bilevel.methods.maskllm import pattern_count
from sparsesearch.config import RunConfig
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network, sparsity_module
from sparsesearch.searchers.learned import LearnedSearcher
from sparsesearch.space import Space

# float32, and what Adam keeps beside each parameter: the gradient and two moments.
FLOAT, ADAM = 4, 3
# Hidden states of a block that a backward pass needs, counted in its inputs, and copies of the logits; of a network
# without blocks, what is kept for each output of a matrix.
ACTIVATIONS, LOGITS, OUTPUTS = 20, 4, 4
# Numbers that are made of each weight that can be pruned on the way to its mask, and that the backward pass needs; as
# measured on llama-7m (results/benchmarks/bilevel).
SOFT = {"bip": 2, "slimming": 2, "pdp": 6, "lapp": 14, "tas": 10, "besa": 2}


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
    weighed = sum(sizes.values())
    learned = float(weighed) if searcher.method in ("bip", "slimming") else 0.0
    masks = float(SOFT.get(searcher.method, 0) * FLOAT * weighed)
    if searcher.method == "maskllm":
        # Logits, their mixture and what it is made of.
        learned = pattern_count(config.pruners.pattern or "2:4") * weighed
        masks = 3 * FLOAT * learned
    if searcher.method in ("tas", "besa"):
        # Which weights each level keeps, a byte each; for the mean of all levels also as numbers.
        levels = {unit.name: len(unit.levels) for unit in space.units}
        copies = FLOAT if searcher.method == "besa" else 0
        masks += sum(size * levels[name] * (1 + copies) for name, size in sizes.items())
    if getattr(options, "mix", "") == "interpolate":
        cuts = [network.cuts[unit.name] for unit in space.units if unit.is_cut]
        masks += 4 * FLOAT * sum(cut.orders * cut.elements**2 for cut in cuts)
    data = samples.get("training", samples["calibration"])
    positions = (options.batch or config.training.batch) * data.length * network.positions
    kept = ACTIVATIONS * network.hidden * len(network.blocks)
    if not network.blocks:
        kept = OUTPUTS * sum(m.rows * m.groups * m.positions for m in network.matrices.values())
    activations = positions * (kept + LOGITS * max(network.values, 1))
    # Dense, learned and (when a size ends) a copy; tensors that are open, and their gradients. What moves is also
    # remembered as it was a step before.
    networks = 3 * params + 2 * read
    return FLOAT * (networks + (2 + ADAM) * learned + (1 + ADAM) * weights + activations) + masks
