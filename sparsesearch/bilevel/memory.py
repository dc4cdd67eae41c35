"""Estimates the memory of a learned search before it begins."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sparsesearch.bilevel.base import FLOAT_BYTES
from sparsesearch.bilevel.registry import learner_class
from sparsesearch.config import RunConfig
from sparsesearch.data.samples import Samples, training_samples
from sparsesearch.models.network import Network
from sparsesearch.searchers.learned.base import LearnedTraits
from sparsesearch.space import Space

# Numbers that Adam keeps beside each parameter: the gradient and two moments.
ADAM_NUMBERS = 3
# Numbers that a backward pass keeps: per block, in multiples of its inputs; copies of the logits; and, for a network
# without blocks, per output of a matrix.
ACTIVATIONS_PER_INPUT, LOGIT_COPIES, NUMBERS_PER_OUTPUT = 20, 4, 4


def needed_bytes(
    config: RunConfig, network: Network, space: Space, searcher: LearnedTraits, samples: Mapping[str, Samples]
) -> float:
    """Estimate the bytes of one worker: networks, learned parameters with their optimizer, masks, and activations."""
    options = searcher.options
    params = sum(math.prod(shape) for shape in network.shapes.values())
    matrix_weights = sum(m.size for m in network.matrices.values())
    trained_numbers = {"frozen": 0.0, "full": float(params), "lora": 0.1 * matrix_weights}[options.weights]
    learned_numbers, masks = learner_class(searcher.method).footprint(space, network, options, config.pruners.pattern)
    data = training_samples(samples)
    positions = (options.batch or config.training.batch) * data.length * network.positions
    numbers_per_position = ACTIVATIONS_PER_INPUT * network.hidden * len(network.blocks)
    if not network.blocks:
        numbers_per_position = NUMBERS_PER_OUTPUT * sum(
            m.rows * m.groups * m.positions for m in network.matrices.values()
        )
    activations = positions * (numbers_per_position + LOGIT_COPIES * max(network.values, 1))
    # The dense network, the learned one and (when a size ends) a copy; tensors with factors, and their gradients. The
    # learned and trained numbers are also kept as they were a step before.
    networks = 3 * params + 2 * matrix_weights
    numbers = networks + (2 + ADAM_NUMBERS) * learned_numbers + (1 + ADAM_NUMBERS) * trained_numbers + activations
    return FLOAT_BYTES * numbers + masks
