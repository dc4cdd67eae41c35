"""The one statistics pass over calibration data that every pruner reads, and gradients."""

from sparsesearch.calibration.collect import InputStatistics
from sparsesearch.calibration.statistics import BlockPass, calibration_pass

__all__ = ["BlockPass", "InputStatistics", "calibration_pass"]
