"""The run configuration: a typed tree, read from a YAML recipe. Unknown keys are errors with line and suggestion."""

from sparsesearch.config.reading import (
    dump_config,
    load_config,
    override,
    parse_assignment,
    validate,
    with_absolute_paths,
)
from sparsesearch.config.tree import (
    PYTHON_SOURCE,
    SUPERNETS,
    DataConfig,
    DataConfigs,
    ExecutorConfig,
    Fraction,
    Grid,
    ImageConfig,
    LatencyConfig,
    ModelConfig,
    PrunerConfig,
    RunConfig,
    Rung,
    ScreenConfig,
    SearchConfig,
    Strict,
    SupernetConfig,
    TrainingConfig,
    UnitConfig,
)

__all__ = [
    "PYTHON_SOURCE", "SUPERNETS", "DataConfig", "DataConfigs", "ExecutorConfig", "Fraction", "Grid", "ImageConfig",
    "LatencyConfig", "ModelConfig", "PrunerConfig", "RunConfig", "Rung", "ScreenConfig", "SearchConfig", "Strict",
    "SupernetConfig", "TrainingConfig", "UnitConfig", "dump_config", "load_config", "override", "parse_assignment",
    "validate", "with_absolute_paths",
]  # fmt: skip
