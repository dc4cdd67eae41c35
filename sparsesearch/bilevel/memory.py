"""Estimates the memory of a learned search before it begins."""

from __future__ import annotations

import math

from sparsesearch.bilevel.methods.maskllm import pattern_count
from sparsesearch.config import RunConfig
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network, sparsity_module
from sparsesearch.searchers.learned import LearnedSearcher
from sparsesearch.space import Space

# Bytes of a float32, and numbers that training keeps beside each parameter: the gradient and Adam's two moments.
FLOAT_BYTES, ADAM_NUMBERS = 4, 3
# Numbers that a backward pass keeps: per block, in multiples of its inputs; copies of the logits; and, for a network
# without blocks, per output of a matrix.
ACTIVATIONS_PER_INPUT, LOGIT_COPIES, NUMBERS_PER_OUTPUT = 20, 4, 4
# Numbers per prunable weight that lead to its mask and that the backward pass keeps, by method; as measured on llama-7m
# (results/benchmarks/bilevel).
MASK_NUMBERS = {"bip": 2, "slimming": 2, "pdp": 6, "lapp": 14, "tas": 10, "besa": 2}


def needed_bytes(
    config: RunConfig, network: Network, space: Space, searcher: LearnedSearcher, samples: dict[str, Samples]
) -> float:
    """Estimate the bytes of one worker: networks, learned parameters with their optimizer, masks, and activations."""
    options = searcher.options
    params = sum(math.prod(shape) for shape in network.shapes.values())
    matrix_sizes = {f"{sparsity_module(m)}.sparsity": m.size for m in network.matrices.values()}
    unit_sizes = {unit.name: matrix_sizes[unit.name] for unit in space.units if unit.kind == "sparsity"}
    matrix_weights = sum(m.size for m in network.matrices.values())
    trained = {"frozen": 0.0, "full": float(params), "lora": 0.1 * matrix_weights}[options.weights]
    prunable = sum(unit_sizes.values())
    learned = float(prunable) if searcher.method in ("bip", "slimming") else 0.0
    masks = float(MASK_NUMBERS.get(searcher.method, 0) * FLOAT_BYTES * prunable)
    if searcher.method == "maskllm":
        # Logits, their mixture, and the numbers that it is computed from.
        learned = pattern_count(config.pruners.pattern or "2:4") * prunable
        masks = 3 * FLOAT_BYTES * learned
    if searcher.method in ("tas", "besa"):
        # A mask for each level, a byte per weight; besa also has them as floats for the mean of all levels.
        levels = {unit.name: len(unit.levels) for unit in space.units}
        float_copies = FLOAT_BYTES if searcher.method == "besa" else 0
        masks += sum(size * levels[name] * (1 + float_copies) for name, size in unit_sizes.items())
    if getattr(options, "mix", "") == "interpolate":
        cuts = [network.cuts[unit.name] for unit in space.units if unit.is_cut]
        masks += 4 * FLOAT_BYTES * sum(cut.orders * cut.elements**2 for cut in cuts)
    data = samples.get("training", samples["calibration"])
    positions = (options.batch or config.training.batch) * data.length * network.positions
    kept = ACTIVATIONS_PER_INPUT * network.hidden * len(network.blocks)
    if not network.blocks:
        kept = NUMBERS_PER_OUTPUT * sum(m.rows * m.groups * m.positions for m in network.matrices.values())
    activations = positions * (kept + LOGIT_COPIES * max(network.values, 1))
    # The dense network, the learned one and (when a size ends) a copy; tensors with factors, and their gradients. The
    # learned and trained numbers are also kept as they were a step before.
    networks = 3 * params + 2 * matrix_weights
    numbers = networks + (2 + ADAM_NUMBERS) * learned + (1 + ADAM_NUMBERS) * trained + activations
    return FLOAT_BYTES * numbers + masks
