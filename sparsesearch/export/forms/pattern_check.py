"""Checks whether N:M patterns hold in exported matrices, and torch's 2:4 format on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sparsesearch.models.network import sparsity_module
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

# torch.sparse.to_sparse_semi_structured takes matrices of multiples of (rows, columns) in half precision.
TILE_SHAPE = (32, 64)


def holds(matrix: torch.Tensor, n: int, m: int) -> bool:
    """Return whether every M adjacent weights of a row have at most N nonzeros; `matrix` has shape (..., columns)."""
    if matrix.shape[-1] % m:
        return False
    return bool((matrix.reshape(*matrix.shape[:-1], -1, m) != 0).sum(-1).le(n).all())


def check(supernet: StitchedSupernet, genome: Genome, pattern: str) -> dict[str, Any] | None:
    """Return `{pattern, matrices, holds, broken}` for the matrices that the genome prunes; None if there are none.

    `broken` names the matrices in which the pattern does not hold, for example because a cut of the width separated
    groups of M.
    """
    n, m = (int(part) for part in pattern.split(":"))
    pruned = pruned_matrices(supernet, genome)
    if not pruned:
        return None
    broken = [name for name, matrix in pruned.items() if not holds(matrix, n, m)]
    return {"pattern": pattern, "matrices": len(pruned), "holds": len(pruned) - len(broken), "broken": broken}


def pruned_matrices(supernet: StitchedSupernet, genome: Genome) -> dict[str, torch.Tensor]:
    """Return the matrices (groups, rows, columns) that the genome makes sparse, by their parameter's name."""
    units = zip(supernet.space.units, genome.levels.tolist(), strict=True)
    sparse = {unit.module for unit, level in units if unit.kind == "sparsity" and level}
    state = supernet.state_dict(genome)
    matrices = supernet.network.matrices.values()
    return {
        matrix.name: matrix.view(state[matrix.name])
        for matrix in matrices
        if sparsity_module(matrix) in sparse and matrix.name in state
    }


def note(checked: Mapping[str, Any]) -> str:
    """Return a sentence about the result of `check`, for reports."""
    broken = checked["broken"]
    text = f"Pattern {checked['pattern']} holds in {checked['holds']} of {checked['matrices']} pruned matrices"
    if broken:
        text += f" (not in {', '.join(broken[:3])}{' ...' if len(broken) > 3 else ''})"
    if checked["pattern"] != "2:4":
        return f"{text}; we know no kernel that uses it."
    return (
        f"{text}. vLLM no longer runs 2:4 sparse checkpoints (its sparse kernels were removed); use "
        "torch.sparse.to_sparse_semi_structured after loading, on GPUs that support it."
    )


def round_trip(matrices: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Convert 2:4 matrices to torch's semi-structured format and back, on the GPU in half precision.

    Args:
        matrices: (groups, rows, columns) by name.

    Returns:
        `{matrices, skipped, max_abs_diff}`: number of converted matrices, number of matrices whose shapes torch's
        kernels do not support, and the largest difference, which should be 0.
    """
    converted, worst = 0, 0.0
    for matrix in matrices.values():
        for weight in matrix:
            if weight.shape[0] % TILE_SHAPE[0] or weight.shape[1] % TILE_SHAPE[1]:
                continue
            dense = weight.to("cuda", torch.float16)
            back = torch.sparse.to_sparse_semi_structured(dense).to_dense()  # type: ignore[no-untyped-call]
            worst = max(worst, float((back - dense).abs().max()))
            converted += 1
    total = sum(len(matrix) for matrix in matrices.values())
    return {"matrices": converted, "skipped": total - converted, "max_abs_diff": worst}
