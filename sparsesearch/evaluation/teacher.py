"""The teacher cache: what the dense model predicts, in at most 3.1 KB a token at any vocabulary.

For each token the 512 largest log-probabilities and their indices, plus one tail bucket for the rest of the
vocabulary. The KL divergence over these 513 outcomes is zero only where they agree, never exceeds the full-vocabulary
KL, and equals it where k covers the vocabulary. (Renormalising over the top k instead would let a student leak mass
outside it for free.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sparsesearch.calibration.data import Tokens

TOP = 512


class Teacher:
    """A memory-mapped cache for windows of selection tokens, shared by all workers of a machine.

    Files in its directory: `tokens` (sequences, length) int32, `index` (sequences, length, k), `logp` likewise, and
    `tail` (sequences, length) float32, the log-probability of everything outside the top k.
    """

    def __init__(self, directory: Path, mode: Literal["r", "r+"] = "r") -> None:
        self.directory = directory
        self.tokens: Tokens = np.load(directory / "tokens.npy", mmap_mode="r")
        self.index = np.load(directory / "index.npy", mmap_mode=mode)
        self.logp = np.load(directory / "logp.npy", mmap_mode=mode)
        self.tail = np.load(directory / "tail.npy", mmap_mode=mode)

    @classmethod
    def create(cls, directory: Path, tokens: Tokens, vocabulary: int, top: int = TOP) -> Teacher:
        """Allocate an empty cache; `fill` writes it."""
        directory.mkdir(parents=True, exist_ok=True)
        k = min(top, vocabulary)
        # Small vocabularies leave room for float32 within the same bytes.
        index, logp = (np.uint16, np.float32) if vocabulary <= 2**16 else (np.int32, np.float16)
        np.save(directory / "tokens.npy", tokens)
        for name, shape, dtype in (("index", (*tokens.shape, k), index), ("logp", (*tokens.shape, k), logp)):
            np.lib.format.open_memmap(directory / f"{name}.npy", mode="w+", dtype=dtype, shape=shape).flush()
        np.lib.format.open_memmap(directory / "tail.npy", mode="w+", dtype=np.float32, shape=tokens.shape).flush()
        return cls(directory, "r+")

    def fill(self, model: Any, start: int, stop: int, batch: int) -> None:
        """Write sequences `start` to `stop` with the dense model's predictions."""
        for first in range(start, stop, batch):
            rows = slice(first, min(first + batch, stop))
            logits = logits_of(model, self.tokens[rows])
            index = logits.topk(self.index.shape[-1], dim=-1).indices
            logp, tail = split(logits, index)
            self.index[rows] = index.cpu().numpy().astype(self.index.dtype)
            self.logp[rows] = logp.cpu().numpy()
            self.tail[rows] = tail.cpu().numpy()
        for array in (self.index, self.logp, self.tail):
            array.flush()

    @property
    def bytes_per_token(self) -> float:
        """Disk and memory that one token takes."""
        return float(self.index.nbytes + self.logp.nbytes + self.tail.nbytes) / float(self.tail.size)

    def rows(self, rows: Any, device: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Indices (int64), log-probabilities and tails (float32) of some sequences."""
        index = torch.from_numpy(self.index[rows].astype(np.int64)).to(device)
        logp = torch.from_numpy(self.logp[rows].astype(np.float32)).to(device)
        tail = torch.from_numpy(np.array(self.tail[rows])).to(device)
        # Rounded log-probabilities made a distribution again: what is left of the rounding is of second order in KL.
        excess = torch.logsumexp(torch.cat([logp, tail[..., None]], dim=-1), dim=-1)
        return index, logp - excess[..., None], tail - excess


def logits_of(model: Any, tokens: Tokens) -> torch.Tensor:
    """Float32 logits (sequences, length, vocabulary) of token windows (sequences, length)."""
    ids = torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(model.device)
    with torch.no_grad():
        logits: torch.Tensor = model(ids, use_cache=False).logits
    return logits.float()


def split(logits: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the outcomes in `index` (..., k), and of everything else together (...).

    The rest is summed by itself, not as one minus the top: that difference would be rounding where the rest is small.
    """
    top = logits.gather(-1, index)
    rest = logits.scatter(-1, index, -torch.inf).logsumexp(dim=-1)
    normaliser = torch.logaddexp(top.logsumexp(dim=-1), rest)
    return top - normaliser[..., None], rest - normaliser


def kl_to_teacher(logits: torch.Tensor, index: torch.Tensor, logp: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student) of every token in nats, shape (sequences, length), over the top k and the tail bucket.

    Args:
        logits: the student's, float32, shape (sequences, length, vocabulary).
        index, logp, tail: the teacher's, as `Teacher.rows` gives them.
    """
    student, student_tail = split(logits, index)
    kl = (logp.exp() * (logp - student)).sum(dim=-1)
    # Where the top k cover the vocabulary, both tails are -inf and there is no such bucket.
    bucket = torch.where(tail.isinf(), 0.0, tail.exp() * (tail - student_tail))
    # float32 sums of equal distributions end within rounding of zero, on either side.
    return (kl + bucket).clamp_min(0.0)
