"""What the scripts here share: options, and quality on test data, which nothing was chosen on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file

from sparsesearch.config import DataConfig, RunConfig
from sparsesearch.data import Samples
from sparsesearch.data.text import samples_of
from sparsesearch.engine.reopen import ReopenedRun
from sparsesearch.evaluation import accuracy, perplexity
from sparsesearch.searchers import Evaluation


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options that scripts which run arms share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("recipe", "results", "training", "test", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("model", "calibration", "selection"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--sequences", type=int, default=4096, help="samples to train on")
    parser.add_argument("--length", type=int, default=256, help="tokens of a training sample")
    parser.add_argument("--test-sequences", type=int, default=256)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", dest="common", type=json.loads, default={}, help="keys of all arms as JSON")
    parser.add_argument("--arms", type=json.loads, required=True, help="keys of each as JSON")
    return parser


def samples_from(opened: ReopenedRun, like: DataConfig, source: str, sequences: int) -> Samples:
    """Samples of another source, read as a role of the run reads its own."""
    data_config = DataConfig.model_validate(like.model_dump() | {"source": source, "sequences": sequences})
    return samples_of(data_config, opened.supernet.network.task, opened.launch.source.directory, "test")


def metric(opened: ReopenedRun, model: object, test: Samples, config: RunConfig) -> float:
    """Perplexity, or accuracy, of a network."""
    task = opened.supernet.network.task
    if task.generates:
        return perplexity(model, test.arrays["input_ids"], config.batch)
    return accuracy(model, task, test, config.batch)


def tested(
    opened: ReopenedRun, evaluation: Evaluation, weights: Path | None, test: Samples, config: RunConfig
) -> float:
    """Perplexity, or accuracy, of a candidate with weights that training gave it, or as it was found."""
    supernet, genome = opened.supernet, evaluation.genome
    with supernet.with_trained_weights(genome, None if weights is None else load_file(weights)):
        model = supernet.materialise(genome).float()
    if weights is None:
        opened.norms.correct(model, genome)
    return metric(opened, model, test, config)
