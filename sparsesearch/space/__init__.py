"""The search space: units, levels, genomes, exact integer costs, limits and repair. Knows neither torch nor ray."""

from sparsesearch.space.cost import COSTS, CostModel, Part
from sparsesearch.space.genome import Genome
from sparsesearch.space.limit import Bound, Limit
from sparsesearch.space.space import Space
from sparsesearch.space.unit import KINDS, Unit

__all__ = ["COSTS", "KINDS", "Bound", "CostModel", "Genome", "Limit", "Part", "Space", "Unit"]
