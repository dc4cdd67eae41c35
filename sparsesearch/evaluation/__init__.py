"""How good a candidate is: the teacher cache, KL to the dense model, perplexity, per-sequence losses."""

from sparsesearch.evaluation.evaluator import Evaluator, perplexity
from sparsesearch.evaluation.teacher import Teacher, kl_to_teacher

__all__ = ["Evaluator", "Teacher", "kl_to_teacher", "perplexity"]
