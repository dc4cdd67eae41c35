"""Searchers propose genomes and learn from evaluations; they see genomes, costs and scores, never torch."""

from sparsesearch.searchers.base import Evaluation, Proposal, Searcher
from sparsesearch.searchers.registry import SEARCHERS, create

__all__ = ["SEARCHERS", "Evaluation", "Proposal", "Searcher", "create"]
