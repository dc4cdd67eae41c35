"""Short training runs and recovery: a candidate's network is trained while its masks hold."""

from sparsesearch.training.loop import Diverged, TrainingRun
from sparsesearch.training.masks import Masks
from sparsesearch.training.objective import Objective
from sparsesearch.training.soup import averaged, greedy_soup
from sparsesearch.training.trainee import Trainee, trainee

__all__ = ["Diverged", "Masks", "Objective", "Trainee", "TrainingRun", "averaged", "greedy_soup", "trainee"]
