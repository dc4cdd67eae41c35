"""What the scripts of this folder share."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.data import Samples
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.engine.reopen import open_run
from sparsesearch.evaluation import Evaluator, Teacher, perplexity
from sparsesearch.export.measuring.quality import text_windows
from sparsesearch.models import load_tokenizer
from sparsesearch.space import Genome


def commit() -> str:
    """The short hash of what is measured."""
    process = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return process.stdout.strip()


class TextMeasure:
    """KL and perplexity of genomes of one run on texts that it did not see: valid.txt and wikitext2-test.txt.

    Attributes:
        opened, space, supernet: of the run.
    """

    def __init__(self, results: Any, text: Path, work: Path, windows: int, length: int, batch: int) -> None:
        """
        Args:
            windows: of valid.txt for KL to dense, or as many as it has; perplexity is on the first 128 of
                wikitext2-test.txt.
            work: directory for what the dense model puts out.
        """
        self.opened, self.space, self.batch = open_run(results, TRUSTED), results.space, batch
        self.supernet = self.opened.supernet
        tokenizer, network = load_tokenizer(self.opened.launch.source.directory), self.supernet.network
        valid = text_windows(tokenizer, text / "valid.txt", length)[:windows]
        teacher = Teacher.create(work / "teacher", Samples({"input_ids": valid}), network.output_shape(length))
        teacher.fill(self.supernet.apply(self.space.dense), network.task, 0, len(valid), batch)
        self.evaluator = Evaluator(self.supernet, teacher, network.task, batch)
        self.windows = np.arange(len(valid))
        self.test = text_windows(tokenizer, text / "wikitext2-test.txt", length)[:128]

    def __call__(self, genome: Genome) -> dict[str, float]:
        kl = float(self.evaluator.losses(genome, self.windows).mean())
        return {"kl": kl, "perplexity": perplexity(self.supernet.model, self.test, self.batch)}
