"""Quality of candidates: losses of samples against stored outputs of the dense model."""

from sparsesearch.evaluation.evaluator import Evaluator, accuracy, perplexity
from sparsesearch.evaluation.qualities import QUALITIES, qualities_of, quality, quality_class
from sparsesearch.evaluation.targets import Targets, outputs_of
from sparsesearch.evaluation.teacher import Teacher, kl_to_teacher

__all__ = [
    "QUALITIES",
    "Evaluator",
    "Targets",
    "Teacher",
    "accuracy",
    "kl_to_teacher",
    "outputs_of",
    "perplexity",
    "qualities_of",
    "quality",
    "quality_class",
]
