"""Short training runs of candidates, each from where its last one ended, judged on selection data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sparsesearch.calibration.samples import Samples
from sparsesearch.config import TrainingConfig
from sparsesearch.evaluation import Targets, outputs_of
from sparsesearch.models.network import Network
from sparsesearch.space import Genome
from sparsesearch.supernet.stitched import StitchedSupernet, state_of
from sparsesearch.training.loop import Diverged, TrainingRun, steps_of
from sparsesearch.training.objective import Objective
from sparsesearch.training.trainee import trainee

CHECKPOINT, MERGED = "checkpoint", "model.safetensors"


class Trials:
    """Trains candidates of one supernet, one after another."""

    def __init__(
        self,
        supernet: StitchedSupernet,
        targets: Targets,
        samples: Samples,
        options: TrainingConfig,
        batch: int,
        compute: torch.dtype,
    ) -> None:
        """
        Args:
            targets: what candidates are judged by.
            samples: training data.
            batch: samples a forward pass of the evaluation.
        """
        self.supernet, self.targets, self.samples = supernet, targets, samples
        self.options, self.batch, self.compute = options, batch, compute
        distils = options.distill or options.hidden
        self._dense = supernet.materialise(supernet.space.dense).float() if distils else None

    @property
    def network(self) -> Network:
        return self.supernet.network

    def train(self, genome: Genome, tokens: int, whole: int, directory: Path) -> dict[str, Any]:
        """Train a candidate to `tokens`, from its checkpoint where it has one, and measure it.

        Args:
            tokens: in all, those of earlier calls among them.
            whole: tokens that the learning-rate schedule is made for.
            directory: the candidate's own; its checkpoint and, at the end, its weights are written there.

        Returns:
            `losses` on all selection samples, `tokens` consumed in this call, `seconds`; or `diverged`, why it ended.
        """
        started, length = time.monotonic(), self.samples.length
        model = self.supernet.materialise(genome)
        run = TrainingRun(
            trainee(model, self.network, self.options), Objective(self.network, self._dense, self.options),
            self.samples, self.options, steps_of(whole, self.options, length), self.compute,
        )  # fmt: skip
        run.load(directory / CHECKPOINT)
        before = run.tokens
        try:
            run.run(steps_of(tokens, self.options, length))
        except Diverged as error:
            return {"diverged": str(error), "tokens": run.tokens - before, "seconds": time.monotonic() - started}
        run.save(directory / CHECKPOINT)
        merged = run.trained.merged().eval()
        state = {name: tensor.contiguous() for name, tensor in state_of(merged).items()}
        temporary = directory / f"{MERGED}.tmp"
        save_file(state, temporary)
        temporary.replace(directory / MERGED)
        losses = self.losses(merged)
        return {"losses": losses, "tokens": run.tokens - before, "seconds": time.monotonic() - started}

    def losses(self, model: Any) -> list[float]:
        """Of a network on all selection samples."""
        found: list[float] = []
        for start in range(0, len(self.targets.samples), self.batch):
            rows = slice(start, start + self.batch)
            outputs = outputs_of(model, self.network.task, self.targets.samples.rows(rows))
            found += self.targets.losses(outputs, rows).cpu().tolist()
        return found
