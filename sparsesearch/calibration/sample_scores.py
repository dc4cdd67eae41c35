"""Which samples of a larger pool to calibrate or train on: scores by the dense network, and picks by them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from sparsesearch.arrays import Floats, Ints
from sparsesearch.calibration.gradients import loss, sample_gradients
from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network

By = Literal["random", "perplexity", "el2n", "grand", "capability"]
Take = Literal["hardest", "middle", "easiest"]
# Groups of like samples that capabilities are told apart by, at most.
GROUPS = 16


def sample_scores(
    by: By, model: Any, network: Network, samples: Samples, batch: int, pruned: Any = None, seed: int = 0
) -> Floats:
    """How hard samples are, (samples,).

    `perplexity`: the mean loss. `el2n`: mean norm of the error in probabilities (Paul et al., 2021, eq. 2). `grand`:
    norm of the gradient of all matrices (ibid., definition 2.1). `capability`: what pruning did to a sample, KL(dense ‖
    pruned), mean over positions (as PASER's degradation, He et al., 2025). `random`: chance.
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
    found: list[float] = []
    for start in range(0, len(samples), batch):
        rows = samples.rows(slice(start, start + batch))
        with torch.no_grad():
            outputs = network.task.call(model, rows.inputs(model))
            if by == "capability":
                theirs = network.task.call(pruned, rows.inputs(pruned))
                # One by one: all at once are several arrays of samples x positions x vocabulary.
                found += [_divergence(outputs[i : i + 1], theirs[i : i + 1]).item() for i in range(len(rows))]
                continue
        for i in range(len(rows)):
            one = rows.rows(slice(i, i + 1))
            value = loss(network.task, outputs[i : i + 1], one) if by == "perplexity" else None
            found.append(float(value) if value is not None else _error_norm(network, outputs[i : i + 1], one))
    return np.array(found)


def _divergence(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """KL(dense ‖ pruned) of each sample, mean over positions, (samples,)."""
    own, theirs = functional.log_softmax(dense.float(), dim=-1), functional.log_softmax(pruned.float(), dim=-1)
    return (own.exp() * (own - theirs)).sum(dim=-1).mean(dim=1)


def _error_norm(network: Network, outputs: torch.Tensor, sample: Samples) -> float:
    """Mean over positions of |softmax - one-hot|: the gradient of the loss with respect to the logits."""
    with torch.enable_grad():
        logits = outputs.detach().float().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(network.task, logits, sample), logits)
    norms = gradient.norm(dim=-1).flatten()
    # The mean loss divides each position's gradient by their number; positions without a target have none.
    return float(norms.sum())


def best_rows(scores: Floats, count: int, take: Take) -> Ints:
    """Rows of `count` samples, ascending: the highest scores, the lowest, or those around the median."""
    order = np.argsort(scores, kind="stable")
    first = {"hardest": len(order) - count, "middle": (len(order) - count) // 2, "easiest": 0}[take]
    return np.sort(order[first : first + count])


def representative_rows(scores: Floats, features: Floats, count: int, seed: int) -> Ints:
    """Rows of `count` samples, ascending: each group of like samples gets a share that its mean score earns.

    PASER's allocation (He et al., 2025, section 3.3): of every group the samples of the highest scores.

    Args:
        features: of samples, (samples, width); groups are clusters of them.
    """
    from sklearn.cluster import KMeans

    groups = KMeans(min(GROUPS, len(scores)), n_init=3, random_state=seed).fit_predict(features)
    names = np.unique(groups)
    weight = np.array([scores[groups == g].mean() for g in names]).clip(min=1e-12)
    chosen: list[int] = []
    members = [np.flatnonzero(groups == g)[np.argsort(-scores[groups == g], kind="stable")] for g in names]
    taken = np.zeros(len(names), dtype=int)
    while len(chosen) < count:
        left = np.array([len(m) for m in members]) > taken
        # Whoever is furthest behind its share is next.
        turn = int(np.argmax(np.where(left, weight / (taken + 1), -1.0)))
        chosen.append(int(members[turn][taken[turn]]))
        taken[turn] += 1
    return np.sort(np.array(chosen, dtype=np.int64))


def mean_outputs(model: Any, network: Network, samples: Samples, batch: int) -> Floats:
    """Mean hidden state after the last block, (samples, hidden): what samples are alike by."""
    found: list[Any] = []
    handle = model.get_submodule(network.blocks[-1]).register_forward_hook(
        lambda _, __, output: found.append(
            (output[0] if isinstance(output, tuple) else output).detach().float().flatten(1, -2).mean(dim=1).cpu()
        )
    )
    try:
        with torch.no_grad():
            for start in range(0, len(samples), batch):
                network.task.call(model, samples.rows(slice(start, start + batch)).inputs(model))
    finally:
        handle.remove()
    return torch.cat(found).double().numpy()
