"""Searches by gradient: a choice is relaxed, learned on a worker, and ends as genomes of the same space."""

from sparsesearch.bilevel.base import LEARNERS, Decision, Learner, Moment, learner

__all__ = ["LEARNERS", "Decision", "Learner", "Moment", "learner"]
