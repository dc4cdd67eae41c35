"""Searches by gradient: a worker learns a relaxed choice, which becomes genomes of the same space."""

from sparsesearch.bilevel.base import LEARNERS, Decision, Learner, StepState, learner

__all__ = ["LEARNERS", "Decision", "Learner", "StepState", "learner"]
