"""Measured latency: a table of pieces, what it says of a candidate, and what a network really takes."""

from sparsesearch.latency.bench import measure_table
from sparsesearch.latency.cost_parts import with_latency
from sparsesearch.latency.table import LatencyTable, Setting, setting_of

__all__ = ["LatencyTable", "Setting", "measure_table", "setting_of", "with_latency"]
