"""Whether N:M patterns hold in what is exported, and what torch makes of 2:4 on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sparsesearch.models.network import sparsity_module
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

# What torch.sparse.to_sparse_semi_structured takes in half precision: multiples of (rows, columns).
TILE = (32, 64)


def holds(matrix: torch.Tensor, n: int, m: int) -> bool:
    """Whether every M adjacent weights of a row hold at most N nonzeros; (..., columns)."""
    if matrix.shape[-1] % m:
        return False
    return bool((matrix.reshape(*matrix.shape[:-1], -1, m) != 0).sum(-1).le(n).all())


def check(supernet: StitchedSupernet, genome: Genome, pattern: str) -> dict[str, Any] | None:
    """`{pattern, matrices, holds, broken}` of the matrices that the genome prunes to a pattern; None without any.

    `broken` names those where it does not hold, as where a width was cut and groups of M no longer lie side by side.
    """
    n, m = (int(part) for part in pattern.split(":"))
    pruned = pruned_matrices(supernet, genome)
    if not pruned:
        return None
    broken = [name for name, matrix in pruned.items() if not holds(matrix, n, m)]
    return {"pattern": pattern, "matrices": len(pruned), "holds": len(pruned) - len(broken), "broken": broken}


def pruned_matrices(supernet: StitchedSupernet, genome: Genome) -> dict[str, torch.Tensor]:
    """The matrices (groups, rows, columns) that the genome makes sparse, by their parameter's name."""
    units = zip(supernet.space.units, genome.levels.tolist(), strict=True)
    sparse = {unit.module for unit, level in units if unit.kind == "sparsity" and level}
    state = supernet.state_dict(genome)
    matrices = supernet.network.matrices.values()
    return {
        matrix.name: matrix.view(state[matrix.name])
        for matrix in matrices
        if sparsity_module(matrix) in sparse and matrix.name in state
    }


def note(found: Mapping[str, Any]) -> str:
    """One sentence for reports."""
    text = f"Pattern {found['pattern']} holds in {found['holds']} of {found['matrices']} pruned matrices"
    if found["broken"]:
        text += f" (not in {', '.join(found['broken'][:3])}{' ...' if len(found['broken']) > 3 else ''})"
    if found["pattern"] != "2:4":
        return f"{text}; no kernel that we know runs it."
    return (
        f"{text}. vLLM no longer runs 2:4 sparse checkpoints (its sparse kernels were removed); what is left is "
        "torch.sparse.to_sparse_semi_structured after loading, on GPUs that have it."
    )


def round_trip(matrices: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What `torch.sparse.to_sparse_semi_structured` makes of 2:4 matrices on the GPU, in half precision.

    Returns:
        `{matrices, skipped, max_abs_diff}`: how many went there and back, how many its kernels have no shape for, and
        the largest difference, which is 0.
    """
    taken, worst = 0, 0.0
    for matrix in matrices.values():
        for weight in matrix:
            if weight.shape[0] % TILE[0] or weight.shape[1] % TILE[1]:
                continue
            dense = weight.to("cuda", torch.float16)
            back = torch.sparse.to_sparse_semi_structured(dense).to_dense()  # type: ignore[no-untyped-call]
            worst = max(worst, float((back - dense).abs().max()))
            taken += 1
    total = sum(len(matrix) for matrix in matrices.values())
    return {"matrices": taken, "skipped": total - taken, "max_abs_diff": worst}
