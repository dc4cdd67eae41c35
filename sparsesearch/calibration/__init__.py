"""Data sources and the one statistics pass that every pruner reads."""

from sparsesearch.calibration.collect import InputStatistics
from sparsesearch.calibration.data import samples_of, token_windows
from sparsesearch.calibration.samples import Samples, given_samples
from sparsesearch.calibration.statistics import BlockPass, calibration_pass

__all__ = [
    "BlockPass",
    "InputStatistics",
    "Samples",
    "calibration_pass",
    "given_samples",
    "samples_of",
    "token_windows",
]
