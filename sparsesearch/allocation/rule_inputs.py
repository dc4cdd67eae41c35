"""The arguments of allocation rules: the matrices, the measurements on them, and the options.

M is the number of matrices, in the order of the space's sparsity units; in a space of widths alone, the matrices that
read one width count as one. B is the number of blocks.
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
    """Sizes of the matrices and measurements on them; a field with a default is measured only if a rule needs it.

    Attributes:
        names: unit names, one for each matrix.
        sizes: weights of each matrix, (M,).
        dims: (rows, columns, *kernel) of each matrix; of one expert or group if the parameter holds several.
        blocks: the block of each matrix, (M,), in [0, B).
        magnitudes: for each matrix |w| in descending order, (entries,), thinned to equally many weights an entry.
        lamp_thresholds: LAMP scores in the same form, in [0, 1].
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
        """Return for each matrix the mean of `values` over the matrices of its block, (M,).

        Args:
            values: one value for each matrix, (M,).
            weights: weights of the mean, (M,); None for equal ones.
        """
        shares = np.ones(len(values)) if weights is None else weights.astype(np.float64)
        mean = np.bincount(self.blocks, shares * values) / np.maximum(np.bincount(self.blocks, shares), 1e-300)
        return np.asarray(mean[self.blocks])


def require(field: Measured | None) -> Measured:
    """Return a field of the evidence; raises ValueError if it was not measured."""
    if field is None:
        raise ValueError("an allocation rule was called without the evidence it needs; see ALLOCATIONS[name].needs")
    return field


class AllocationConfig(Strict):
    """Options of allocation rules, each with its paper's default."""

    # OWL, λ: densities of two blocks differ by at most twice this.
    owl_range: Fraction = 0.08
    # AlphaPruning, ε: sparsities range from 1 - ε to 1 + ε before they are scaled.
    alpha_range: float = Field(0.3, ge=0, lt=1)
    # CFSP, a: steepness of the share kept over a block's importance.
    cfsp_intensity: float = Field(1.0, ge=0)
    # Adapt-Pruner, A: largest change of a block's density in one step.
    adapt_amplitude: float = Field(0.02, ge=0)
    # Adapt-Pruner: number of equal steps to the sparsity.
    adapt_steps: int = Field(1, ge=1)
    # Global magnitude, ECoFLaP: smallest density of a matrix, as a share of the uniform density. 0.4 is ECoFLaP's
    # largest sparsity of 80 % at its target of 50 %; a fixed 20 % would be uniform at 80 % and beyond.
    floor: Fraction = 0.4
    # Block influence, τ: temperature of the softmax; towards infinity the allocation becomes uniform.
    influence_temperature: float = Field(0.1, gt=0)
