"""Closed-form allocations: how much of each matrix to keep at a given overall sparsity. Seeds and baselines.

Only `evidence` and `measured_evidence` import torch; import them by their module names.
"""

from sparsesearch.allocation.base import ALLOCATIONS, Allocation, allocation, allocation_named, densities_by_name
from sparsesearch.allocation.density_budget import project
from sparsesearch.allocation.genomes import allocation_units, genome_at_densities, genome_at_limits
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence

__all__ = [
    "ALLOCATIONS",
    "Allocation",
    "AllocationConfig",
    "Evidence",
    "allocation",
    "allocation_named",
    "allocation_units",
    "densities_by_name",
    "genome_at_densities",
    "genome_at_limits",
    "project",
]
