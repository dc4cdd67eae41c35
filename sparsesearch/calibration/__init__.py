"""Data sources and the one statistics pass that every pruner reads."""

from sparsesearch.calibration.data import data_hash, token_windows
from sparsesearch.calibration.statistics import BlockPass, block_kwargs

__all__ = ["BlockPass", "block_kwargs", "data_hash", "token_windows"]
