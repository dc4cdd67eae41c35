"""What allocation rules are given: what can be pruned, what was measured on it, and the options.

M matrices, in the order of the space's sparsity units; in a space of widths alone, what reads each width counts as one
matrix. B blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sparsesearch.arrays import Floats, Ints
from sparsesearch.config import Fraction, Strict

Measured = TypeVar("Measured")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Facts about the matrices; what has a default is measured only where a rule needs it (see `evidence.py`).

    Attributes:
        names: of the units, one for each matrix.
        sizes: weights of each matrix, (M,).
        dims: (rows, columns, *kernel) of each matrix; of one expert or group where the parameter holds several.
        blocks: the block of each matrix, (M,), in [0, B).
        magnitudes: for each matrix |w| in descending order, thinned to equally many weights an entry.
        lamp_thresholds: the same of LAMP scores, in [0, 1].
        outliers: share of Wanda scores that exceed a multiple of the block's mean, (M,), in [0, 1].
        tail_exponent: power-law exponent of the spectrum's tail, (M,), > 1.
        angles: mean angle between a block's input and output, in units of π, (B,), in [0, 1].
        cosines: mean cosine between a block's input and output, (B,), in [-1, 1].
        gradient_square: Σ w² g² over the matrix, (M,), >= 0.
        pq_index: PQ index of the weights with p = 1/2 and q = 1, (M,), in [0, 1].
    """

    names: tuple[str, ...]
    sizes: Ints
    dims: tuple[tuple[int, ...], ...]
    blocks: Ints
    magnitudes: tuple[Floats, ...] | None = None
    lamp_thresholds: tuple[Floats, ...] | None = None
    outliers: Floats | None = None
    tail_exponent: Floats | None = None
    angles: Floats | None = None
    cosines: Floats | None = None
    gradient_square: Floats | None = None
    pq_index: Floats | None = None

    def block_mean(self, values: Floats, weights: npt.NDArray[np.generic] | None = None) -> Floats:
        """For each matrix the mean of `values` (M,) over the matrices of its block, (M,)."""
        each = np.ones(len(values)) if weights is None else weights.astype(np.float64)
        mean = np.bincount(self.blocks, each * values) / np.maximum(np.bincount(self.blocks, each), 1e-300)
        result: Floats = mean[self.blocks]
        return result


def measured(field: Measured | None) -> Measured:
    """A field of the evidence; raises ValueError where it was not measured."""
    if field is None:
        raise ValueError("an allocation rule was called without the evidence it needs; see ALLOCATIONS[name].needs")
    return field


class AllocationConfig(Strict):
    """Options of allocation rules, each with its paper's default."""

    # OWL, lambda: densities of two blocks differ by at most twice this.
    owl_range: Fraction = 0.08
    # AlphaPruning, epsilon: sparsities range over 1 - epsilon to 1 + epsilon before they are scaled.
    alpha_range: float = Field(0.3, ge=0, lt=1)
    # CFSP, a: how steeply the share kept rises with a block's importance.
    cfsp_intensity: float = Field(1.0, ge=0)
    # Adapt-Pruner, A: how far one step moves the most and the least important block.
    adapt_amplitude: float = Field(0.02, ge=0)
    # Adapt-Pruner: in how many equal steps the sparsity is reached.
    adapt_steps: int = Field(1, ge=1)
    # Global magnitude, ECoFLaP: what every matrix keeps, as a share of what uniform pruning would leave it. 0.4 is
    # ECoFLaP's largest sparsity of 80 % at its target of 50 %; a fixed 20 % would be uniform at 80 % and beyond.
    floor: Fraction = 0.4
    # Block influence: the softmax's temperature; towards infinity the allocation becomes uniform.
    influence_temperature: float = Field(0.1, gt=0)
