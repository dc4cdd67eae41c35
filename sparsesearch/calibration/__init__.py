"""Data sources and the one statistics pass that every pruner reads."""

from sparsesearch.calibration.collect import InputStatistics
from sparsesearch.calibration.data import data_hash, token_windows
from sparsesearch.calibration.statistics import BlockPass, block_arguments

__all__ = ["BlockPass", "InputStatistics", "block_arguments", "data_hash", "token_windows"]
