"""What the scripts here share: quality on test data, which nothing was chosen on."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from sparsesearch.calibration import Samples
from sparsesearch.calibration.data import samples_of
from sparsesearch.config import DataConfig, RunConfig
from sparsesearch.evaluation import accuracy, perplexity
from sparsesearch.export.write import Opened
from sparsesearch.searchers import Evaluation


def samples_from(opened: Opened, like: DataConfig, source: str, sequences: int) -> Samples:
    """Samples of another source, read as a role of the run reads its own."""
    wanted = DataConfig.model_validate(like.model_dump() | {"source": source, "sequences": sequences})
    return samples_of(wanted, opened.supernet.network.task, opened.source.directory, "test")


def metric(opened: Opened, model: object, test: Samples, config: RunConfig) -> float:
    """Perplexity, or accuracy, of a network."""
    task = opened.supernet.network.task
    if task.generates:
        return perplexity(model, test.arrays["input_ids"], config.batch)
    return accuracy(model, task, test, config.batch)


def tested(opened: Opened, evaluation: Evaluation, weights: Path | None, test: Samples, config: RunConfig) -> float:
    """Perplexity, or accuracy, of a candidate with weights that training gave it, or as it was found."""
    supernet, genome = opened.supernet, evaluation.genome
    if weights is not None:
        supernet.trained[genome] = load_file(weights)
    model = supernet.materialise(genome).float()
    if weights is None:
        opened.norms.correct(model, genome)
    supernet.trained.pop(genome, None)
    return metric(opened, model, test, config)
