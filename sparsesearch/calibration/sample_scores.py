"""Choice of samples to calibrate or train on: scores of a larger pool by the dense network, and picks by scores."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from sparsesearch.arrays import Floats, Ints
from sparsesearch.calibration.gradients import loss, sample_gradients
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network

SampleScore = Literal["random", "perplexity", "el2n", "grand", "capability"]
Difficulty = Literal["hardest", "middle", "easiest"]
# Largest number of clusters of similar samples in `representative_rows`.
MAX_CLUSTERS = 16


def sample_scores(
    by: SampleScore, model: Any, network: Network, samples: Samples, batch: int, pruned: Any = None, seed: int = 0
) -> Floats:
    """Return how hard samples are, (samples,), >= 0.

    `perplexity`: the mean loss. `el2n`: mean norm of the error in probabilities (Paul et al., 2021, eq. 2). `grand`:
    norm of the gradient of all matrices (ibid., definition 2.1). `capability`: change by pruning, KL(dense ‖ pruned),
    mean over positions (as PASER's degradation, He et al., 2025). `random`: uniform random numbers.

    Args:
        by: the score.
        batch: samples of a forward pass.
        pruned: a pruned copy of the model, for `capability`.
        seed: random seed, for `random`.
    """
    if by == "random":
        return np.random.default_rng(seed).random(len(samples))
    if by == "grand":
        parameters = {name: model.get_parameter(name) for name in network.matrices}
        norms = [
            sum(float(gradient.square().sum()) for gradient in gradients.values()) ** 0.5
            for gradients in sample_gradients(model, network.task, samples, parameters)
        ]
        return np.array(norms)
    scores: list[float] = []
    for start in range(0, len(samples), batch):
        rows = samples.rows(slice(start, start + batch))
        with torch.no_grad():
            outputs = network.task.call(model, rows.inputs(model))
            if by == "capability":
                pruned_outputs = network.task.call(pruned, rows.inputs(pruned))
                # One sample at a time, since a batch needs several arrays of samples x positions x vocabulary.
                scores += [_divergence(outputs[i : i + 1], pruned_outputs[i : i + 1]).item() for i in range(len(rows))]
                continue
        for i in range(len(rows)):
            sample = rows.rows(slice(i, i + 1))
            value = loss(network.task, outputs[i : i + 1], sample) if by == "perplexity" else None
            scores.append(float(value) if value is not None else _error_norm(network, outputs[i : i + 1], sample))
    return np.array(scores)


def _divergence(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """Return KL(dense ‖ pruned), mean over positions, of logits (samples, positions, values) -> (samples,)."""
    log_p, log_q = functional.log_softmax(dense.float(), dim=-1), functional.log_softmax(pruned.float(), dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean(dim=1)


def _error_norm(network: Network, outputs: torch.Tensor, sample: Samples) -> float:
    """Return the mean over positions of |softmax - one-hot|, the gradient of the loss with respect to the logits.

    Args:
        outputs: logits of one sample, (1, positions, values).
    """
    with torch.enable_grad():
        logits = outputs.detach().float().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(network.task, logits, sample), logits)
    norms = gradient.norm(dim=-1).flatten()
    # The mean loss divides each position's gradient by their number; positions without a target have none.
    return float(norms.sum())


def best_rows(scores: Floats, count: int, take: Difficulty) -> Ints:
    """Return the rows of `count` samples, ascending (count,): the highest scores, the lowest, or around the median.

    Args:
        scores: (samples,).
    """
    order = np.argsort(scores, kind="stable")
    first = {"hardest": len(order) - count, "middle": (len(order) - count) // 2, "easiest": 0}[take]
    return np.sort(order[first : first + count])


def representative_rows(scores: Floats, features: Floats, count: int, seed: int) -> Ints:
    """Return the rows of `count` samples, ascending (count,), shared among clusters in proportion to their mean scores.

    PASER's allocation (He et al., 2025, section 3.3): of every cluster the samples of the highest scores.

    Args:
        scores: (samples,).
        features: features by which samples are clustered, (samples, width).
        seed: random seed of the clustering.
    """
    from sklearn.cluster import KMeans

    labels = KMeans(min(MAX_CLUSTERS, len(scores)), n_init=3, random_state=seed).fit_predict(features)
    clusters = np.unique(labels)
    weight = np.array([scores[labels == c].mean() for c in clusters]).clip(min=1e-12)
    rows: list[int] = []
    members = [np.flatnonzero(labels == c)[np.argsort(-scores[labels == c], kind="stable")] for c in clusters]
    taken = np.zeros(len(clusters), dtype=int)
    while len(rows) < count:
        available = np.array([len(m) for m in members]) > taken
        # The cluster that is furthest below its share is next.
        cluster = int(np.argmax(np.where(available, weight / (taken + 1), -1.0)))
        rows.append(int(members[cluster][taken[cluster]]))
        taken[cluster] += 1
    return np.sort(np.array(rows, dtype=np.int64))


def mean_outputs(model: Any, network: Network, samples: Samples, batch: int) -> Floats:
    """Return the mean hidden state after the last block, (samples, hidden), the features of `representative_rows`."""
    means: list[Any] = []
    handle = model.get_submodule(network.blocks[-1]).register_forward_hook(
        lambda _, __, output: means.append(
            (output[0] if isinstance(output, tuple) else output).detach().float().flatten(1, -2).mean(dim=1).cpu()
        )
    )
    try:
        with torch.no_grad():
            for start in range(0, len(samples), batch):
                network.task.call(model, samples.rows(slice(start, start + batch)).inputs(model))
    finally:
        handle.remove()
    return torch.cat(means).double().numpy()
