"""Closed-form allocations: how much of each matrix to keep at a given overall sparsity. Seeds and baselines.

Only `evidence` knows torch; import it as a module where evidence is measured.
"""

from sparsesearch.allocation.base import ALLOCATIONS, Allocation, allocation, allocation_named, densities_by_name
from sparsesearch.allocation.density_budget import project
from sparsesearch.allocation.genomes import at_limits, distributed, nearest
from sparsesearch.allocation.given import AllocationConfig, Evidence

__all__ = [
    "ALLOCATIONS",
    "Allocation",
    "AllocationConfig",
    "Evidence",
    "allocation",
    "allocation_named",
    "at_limits",
    "densities_by_name",
    "distributed",
    "nearest",
    "project",
]
