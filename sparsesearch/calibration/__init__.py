"""The statistics pass over calibration data that every pruner reads, gradients, and scores of samples."""

from sparsesearch.calibration.collect import InputStatistics
from sparsesearch.calibration.statistics import BlockPass, calibration_pass

__all__ = ["BlockPass", "InputStatistics", "calibration_pass"]
