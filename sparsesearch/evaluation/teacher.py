"""The teacher cache: predictions of the dense model, in at most 3.1 KB a token at any vocabulary.

For each position it holds the 512 largest log-probabilities and their indices, plus one tail bucket for all other
classes. The KL divergence over these 513 outcomes is zero only if they agree, never exceeds the full KL, and equals it
if k covers all classes. (Renormalised over the top k instead, it would ignore a student's mass outside.)
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from sparsesearch.data.samples import Rows, Samples
from sparsesearch.evaluation.targets import CLASSES, Targets, allocate
from sparsesearch.models.network import Network

# Log-probabilities stored for each position.
TOP_K = 512


class Teacher(Targets):
    """KL divergence of the dense model's distribution from the candidate's, nats a token (or a sample).

    Files: `index` and `logp` (samples, positions, k), and `tail` (samples, positions) float32, the log-probability of
    all outcomes outside the top k.
    """

    tasks: ClassVar[tuple[str, ...]] = ("causal", "masked", "seq2seq", *CLASSES)
    files = ("index", "logp", "tail")

    @classmethod
    def is_blind(cls, network: Network) -> bool:
        return not network.distribution

    @classmethod
    def create(cls, directory: Path, samples: Samples, shape: tuple[int, int], top: int = TOP_K) -> Teacher:
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
        logp, tail = log_probabilities(outputs, index)
        self.arrays["index"][rows] = index.cpu().numpy().astype(self.arrays["index"].dtype)
        self.arrays["logp"][rows] = logp.cpu().numpy()
        self.arrays["tail"][rows] = tail.cpu().numpy()

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        teacher = self.rows(rows, outputs.device)
        # One sample at a time, so that tensors fit the processor's cache and memory is reused.
        return torch.stack([kl_to_teacher(*sample).double().mean() for sample in zip(outputs, *teacher, strict=True)])

    @property
    def bytes_per_token(self) -> float:
        """Bytes of one token, on disk as in memory."""
        return sum(array.nbytes for array in self.arrays.values()) / float(self.arrays["tail"].size)

    def rows(self, rows: Rows, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return indices (int64), log-probabilities (samples, positions, k) and tails (samples, positions), float32."""
        index = torch.from_numpy(self.arrays["index"][rows].astype(np.int64)).to(device)
        logp = torch.from_numpy(self.arrays["logp"][rows].astype(np.float32)).to(device)
        tail = torch.from_numpy(np.array(self.arrays["tail"][rows])).to(device)
        # Normalise the rounded log-probabilities again, so that rounding changes KL only in second order.
        excess = torch.logsumexp(torch.cat([logp, tail[..., None]], dim=-1), dim=-1)
        return index, logp - excess[..., None], tail - excess


class SparseTeacher(Teacher):
    """KL divergence among the dense model's 512 likeliest outcomes alone, both distributions renormalised over them.

    Probability of other outcomes costs a candidate nothing (Týr-the-Pruner's fitness, arXiv 2503.09657).
    """

    tasks: ClassVar[tuple[str, ...]] = ("causal", "masked", "seq2seq")

    def losses(self, outputs: torch.Tensor, rows: Rows) -> torch.Tensor:
        index, logp, _ = self.rows(rows, outputs.device)
        candidate = torch.log_softmax(outputs.gather(-1, index), dim=-1)
        dense = torch.log_softmax(logp, dim=-1)
        kl = (dense.exp() * (dense - candidate)).sum(dim=-1)
        return kl.clamp_min(0.0).double().mean(dim=-1)


def log_probabilities(logits: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities of the outcomes in `index`, (..., k), and of all others together, (...).

    The others are summed directly; one minus the top would be rounding error if they are unlikely.

    Args:
        logits: (..., classes).
        index: outcomes, (..., k).
    """
    highest = logits.amax(dim=-1, keepdim=True)
    weights = (logits - highest).exp_()
    top = weights.gather(-1, index).sum(dim=-1)
    rest = weights.scatter_(-1, index, 0.0).sum(dim=-1)
    if index.shape[-1] < logits.shape[-1]:
        # Outcomes that underflow are not impossible.
        rest = rest.clamp_min(torch.finfo(rest.dtype).tiny)
    normaliser = (top + rest).log()
    return logits.gather(-1, index) - highest - normaliser[..., None], rest.log() - normaliser


def kl_to_teacher(logits: torch.Tensor, index: torch.Tensor, logp: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
    """Return KL(teacher ‖ student) of every position in nats, (..., positions), over the top k and the tail bucket.

    Args:
        logits: logits of the student, float32, (..., positions, classes).
        index, logp, tail: distribution of the teacher, as `Teacher.rows` returns it.
    """
    student, student_tail = log_probabilities(logits, index)
    kl = (logp.exp() * (logp - student)).sum(dim=-1)
    # If the top k are all classes, both tails are -inf and there is no such bucket.
    bucket = torch.where(tail.isinf(), 0.0, tail.exp() * (tail - student_tail))
    # float32 sums of equal distributions can be slightly negative.
    return (kl + bucket).clamp_min(0.0)
