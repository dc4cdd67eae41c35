"""The teacher cache: what the dense model predicts, in at most 3.1 KB a token at any vocabulary.

For each position the 512 largest log-probabilities and their indices, plus one tail bucket for the rest of the
classes. The KL divergence over these 513 outcomes is zero only where they agree, never exceeds the full KL, and equals
it where k covers all classes. (Renormalising over the top k instead would let a student leak mass outside it for free.)
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from sparsesearch.data.samples import Rows, Samples
from sparsesearch.evaluation.targets import CLASSES, Targets, allocate
from sparsesearch.models.network import Network

TOP = 512


class Teacher(Targets):
    """KL divergence of the dense model's distribution from the candidate's, nats a token (or a sample).

    Files: `index` (samples, positions, k), `logp` likewise, and `tail` (samples, positions) float32, the
    log-probability of everything outside the top k.
    """

    tasks: ClassVar[tuple[str, ...]] = ("causal", "masked", "seq2seq", *CLASSES)
    files = ("index", "logp", "tail")

    @classmethod
    def is_blind(cls, network: Network) -> bool:
        return not network.distribution

    @classmethod
    def create(cls, directory: Path, samples: Samples, shape: tuple[int, int], top: int = TOP) -> Teacher:
        positions, values = shape
        k = min(top, values)
        # Few classes leave room for float32 within the same bytes.
        index, logp = (np.uint16, np.float32) if values <= 2**16 else (np.int32, np.float16)
        samples.save(directory / "samples")
        allocate(directory / "index.npy", (len(samples), positions, k), index)
        allocate(directory / "logp.npy", (len(samples), positions, k), logp)
        allocate(directory / "tail.npy", (len(samples), positions), np.float32)
        return cls(directory, "r+")

    def write(self, rows: slice, outputs: torch.Tensor) -> None:
        index = outputs.topk(self.arrays["index"].shape[-1], dim=-1).indices
        logp, tail = split(outputs, index)
        self.arrays["index"][rows] = index.cpu().numpy().astype(self.arrays["index"].dtype)
        self.arrays["logp"][rows] = logp.cpu().numpy()
        self.arrays["tail"][rows] = tail.cpu().numpy()

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        kept = self.rows(rows, outputs.device)
        # One sample at a time: tensors that fit the processor's cache, and memory that is used again.
        found = [kl_to_teacher(*sample).double().mean() for sample in zip(outputs, *kept, strict=True)]
        return torch.stack(found)

    @property
    def bytes_per_token(self) -> float:
        """Disk and memory that one token takes."""
        return sum(array.nbytes for array in self.arrays.values()) / float(self.arrays["tail"].size)

    def rows(self, rows: Rows, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Indices (int64), log-probabilities and tails (float32) of some samples."""
        index = torch.from_numpy(self.arrays["index"][rows].astype(np.int64)).to(device)
        logp = torch.from_numpy(self.arrays["logp"][rows].astype(np.float32)).to(device)
        tail = torch.from_numpy(np.array(self.arrays["tail"][rows])).to(device)
        # Rounded log-probabilities made a distribution again: what is left of the rounding is of second order in KL.
        excess = torch.logsumexp(torch.cat([logp, tail[..., None]], dim=-1), dim=-1)
        return index, logp - excess[..., None], tail - excess


class SparseTeacher(Teacher):
    """KL divergence among the dense model's 512 likeliest outcomes alone, both distributions renormalised over them.

    What a candidate gives to other outcomes costs it nothing (Týr-the-Pruner's fitness, arXiv 2503.09657).
    """

    tasks: ClassVar[tuple[str, ...]] = ("causal", "masked", "seq2seq")

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        index, logp, _ = self.rows(rows, outputs.device)
        own = torch.log_softmax(outputs.gather(-1, index), dim=-1)
        dense = torch.log_softmax(logp, dim=-1)
        kl = (dense.exp() * (dense - own)).sum(dim=-1)
        return kl.clamp_min(0.0).double().mean(dim=-1)


def split(logits: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the outcomes in `index` (..., k), and of everything else together (...).

    The rest is summed by itself, not as one minus the top: that difference would be rounding where the rest is small.
    """
    highest = logits.amax(dim=-1, keepdim=True)
    weights = (logits - highest).exp_()
    top = weights.gather(-1, index).sum(dim=-1)
    rest = weights.scatter_(-1, index, 0.0).sum(dim=-1)
    if index.shape[-1] < logits.shape[-1]:
        # What underflows is less likely than this, but not impossible.
        rest = rest.clamp_min(torch.finfo(rest.dtype).tiny)
    normaliser = (top + rest).log()
    return logits.gather(-1, index) - highest - normaliser[..., None], rest.log() - normaliser


def kl_to_teacher(logits: torch.Tensor, index: torch.Tensor, logp: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student) of every position in nats, shape (..., positions), over the top k and the tail bucket.

    Args:
        logits: the student's, float32, shape (..., positions, classes).
        index, logp, tail: the teacher's, as `Teacher.rows` gives them.
    """
    student, student_tail = split(logits, index)
    kl = (logp.exp() * (logp - student)).sum(dim=-1)
    # Where the top k cover all classes, both tails are -inf and there is no such bucket.
    bucket = torch.where(tail.isinf(), 0.0, tail.exp() * (tail - student_tail))
    # float32 sums of equal distributions end within rounding of zero, on either side.
    return (kl + bucket).clamp_min(0.0)
