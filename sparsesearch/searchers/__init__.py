"""Searchers propose genomes and learn from evaluations; they see genomes, costs and scores, never torch.

`registry` knows them by name; it is not imported here, since reading a run needs none of them.
"""

from sparsesearch.searchers.base import Evaluation, Proposal, Searcher

__all__ = ["Evaluation", "Proposal", "Searcher"]
