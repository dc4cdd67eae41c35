"""Searchers propose genomes and learn from evaluations; they see genomes, costs and scores, never torch.

`registry` knows them by name; it is not imported here, since reading a run needs none of them.
"""

from sparsesearch.searchers.base import Searcher
from sparsesearch.searchers.records import Evaluation, Proposal

__all__ = ["Evaluation", "Proposal", "Searcher"]
