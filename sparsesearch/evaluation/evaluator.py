"""Measuring a genome on selection data: a loss for every sequence, so that candidates can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from sparsesearch.calibration.data import Tokens
from sparsesearch.evaluation.teacher import Teacher, kl_to_teacher, logits_of
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet

Quality = Literal["kl", "perplexity"]
QUALITIES = {
    "kl": "KL divergence of the dense model's next-token distribution from the candidate's, nats a token",
    "perplexity": "exp of the mean next-token loss",
}


class Evaluator:
    """Scores genomes of one supernet against one teacher cache."""

    def __init__(self, supernet: StitchedSupernet, teacher: Teacher, quality: Quality, batch: int) -> None:
        self.supernet, self.teacher, self.quality, self.batch = supernet, teacher, quality, batch

    def losses(self, genome: Genome, sequences: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Mean loss a token of each sequence (KL or next-token cross-entropy, nats), shape (sequences,)."""
        model = self.supernet.apply(genome)
        found = []
        for start in range(0, len(sequences), self.batch):
            rows = sequences[start : start + self.batch]
            tokens = self.teacher.tokens[rows]
            logits = logits_of(model, tokens)
            if self.quality == "kl":
                loss = kl_to_teacher(logits, *self.teacher.rows(rows, logits.device)).double().mean(dim=1)
            else:
                loss = next_token_loss(logits, tokens).mean(dim=1)
            found.append(loss.cpu().numpy())
        return np.concatenate(found)


def minibatch(count: int, need: int, seed: int, draw: int) -> npt.NDArray[np.int64]:
    """Which sequences of a pool a draw uses; smaller needs of the same draw are its prefixes (nested)."""
    order = np.random.default_rng([seed, draw]).permutation(count)
    return np.sort(order[:need])


def quality_of(losses: npt.NDArray[np.float64], quality: str) -> float:
    """The objective that per-sequence losses amount to."""
    mean = float(np.mean(losses))
    return float(np.exp(mean)) if quality == "perplexity" else mean


def next_token_loss(logits: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """Cross-entropy of every token but the first, nats, float64 (sequences, length - 1)."""
    targets = torch.from_numpy(np.asarray(tokens[:, 1:], dtype=np.int64)).to(logits.device)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none")
    return loss.double()


def perplexity(model: Any, tokens: Tokens, batch: int, progress: Callable[[int], None] | None = None) -> float:
    """exp of the mean next-token loss within windows (sequences, length); the first token of a window is given.

    Args:
        progress: called with the number of windows done.
    """
    total = 0.0
    for start in range(0, len(tokens), batch):
        window = tokens[start : start + batch]
        total += float(next_token_loss(logits_of(model, window), window).sum())
        if progress is not None:
            progress(start + len(window))
    return float(np.exp(total / (len(tokens) * (tokens.shape[1] - 1))))
