"""What a learned search holds in memory, before it begins."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sparsesearch.bilevel.base import FLOAT_BYTES
from sparsesearch.bilevel.registry import learner_class
from sparsesearch.config import RunConfig
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network
from sparsesearch.searchers.learned import LearnedTraits
from sparsesearch.space import Space

# Numbers that Adam keeps beside each parameter: the gradient and two moments.
ADAM = 3
# Hidden states of a block that a backward pass needs, counted in its inputs, and copies of the logits; of a network
# without blocks, what is kept for each output of a matrix.
ACTIVATIONS, LOGITS, OUTPUTS = 20, 4, 4


def needed_bytes(
    config: RunConfig, network: Network, space: Space, searcher: LearnedTraits, samples: Mapping[str, Samples]
) -> float:
    """Bytes of one worker: the networks, what is learned with its optimizer, masks, and activations; an estimate."""
    options = searcher.options
    params = sum(math.prod(shape) for shape in network.shapes.values())
    read = sum(m.size for m in network.matrices.values())
    weights = {"frozen": 0.0, "full": float(params), "lora": 0.1 * read}[options.weights]
    learned, masks = learner_class(searcher.method).footprint(space, network, options, config.pruners.pattern)
    data = samples.get("training", samples["calibration"])
    positions = (options.batch or config.training.batch) * data.length * network.positions
    kept = ACTIVATIONS * network.hidden * len(network.blocks)
    if not network.blocks:
        kept = OUTPUTS * sum(m.rows * m.groups * m.positions for m in network.matrices.values())
    activations = positions * (kept + LOGITS * max(network.values, 1))
    # Dense, learned and (when a size ends) a copy; tensors that are open, and their gradients. What moves is also
    # remembered as it was a step before.
    networks = 3 * params + 2 * read
    return FLOAT_BYTES * (networks + (2 + ADAM) * learned + (1 + ADAM) * weights + activations) + masks
