"""Measured latency: a table of pieces, the latency of candidates by the table, and timing of complete networks."""

from sparsesearch.latency.bench import measure_table
from sparsesearch.latency.cost_parts import with_latency
from sparsesearch.latency.table import LatencyTable, Setting, setting_of

__all__ = ["LatencyTable", "Setting", "measure_table", "setting_of", "with_latency"]
