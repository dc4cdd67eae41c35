"""The run configuration: a typed tree, read from a YAML recipe. Unknown keys are errors with line and suggestion."""

from sparsesearch.config.base import Fraction, Strict
from sparsesearch.config.data import PYTHON_SOURCE, DataConfig, DataConfigs, ImageConfig
from sparsesearch.config.reading import (
    dump_config,
    load_config,
    override,
    parse_assignment,
    validate,
    with_absolute_paths,
)
from sparsesearch.config.search import Rung, ScreenConfig, SearchConfig
from sparsesearch.config.training import SUPERNETS, SupernetConfig, TrainingConfig
from sparsesearch.config.tree import FACTORY, ExecutorConfig, LatencyConfig, ModelConfig, RunConfig
from sparsesearch.config.units import Grid, PrunerConfig, UnitConfig

__all__ = [
    "FACTORY",
    "PYTHON_SOURCE",
    "SUPERNETS",
    "DataConfig",
    "DataConfigs",
    "ExecutorConfig",
    "Fraction",
    "Grid",
    "ImageConfig",
    "LatencyConfig",
    "ModelConfig",
    "PrunerConfig",
    "RunConfig",
    "Rung",
    "ScreenConfig",
    "SearchConfig",
    "Strict",
    "SupernetConfig",
    "TrainingConfig",
    "UnitConfig",
    "dump_config",
    "load_config",
    "override",
    "parse_assignment",
    "validate",
    "with_absolute_paths",
]
