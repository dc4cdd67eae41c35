"""Short training runs and recovery: trains a candidate's network and keeps its pruned weights at zero."""

from sparsesearch.training.loop import Diverged, TrainingRun
from sparsesearch.training.masks import Masks
from sparsesearch.training.objective import Objective
from sparsesearch.training.soup import average, greedy_soup
from sparsesearch.training.trainee import Trainee, make_trainee

__all__ = ["Diverged", "Masks", "Objective", "Trainee", "TrainingRun", "average", "greedy_soup", "make_trainee"]
